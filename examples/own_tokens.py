"""A transformer on token ids, called with keywords as those of Hugging Face are.

mtlbench run sentences --plugin examples/own_tokens.py --strategies equal,pcgrad
"""

import torch
from torch import nn

from mtlbench import Task, suite_from
from mtlbench.tasks.metrics import accuracy, f1
from mtlbench.tasks.task import binary_cross_entropy, cross_entropy

WORDS, LENGTH, TOPICS = 60, 12, 4


class Sentences(torch.utils.data.Dataset):
    """Sentences of made-up words: which topic most are of, and whether one of them is "not"."""

    def __init__(self, count, seed):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        chance = torch.Generator().manual_seed(self.seed + i)
        topic = torch.randint(TOPICS, (), generator=chance)
        ids = torch.randint(1, WORDS, (LENGTH,), generator=chance)
        of_topic = torch.rand(LENGTH, generator=chance) < 0.5
        ids = torch.where(of_topic, ids - ids % TOPICS + topic, ids).clamp(1, WORDS - 2)
        negated = torch.rand((), generator=chance) < 0.5
        ids[int(ids[0]) % LENGTH] = WORDS - 1 if negated else ids[0]
        mask = torch.arange(LENGTH) < 8 + i % 5
        return {"input_ids": ids, "attention_mask": mask, "topic": topic, "negated": negated}


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 32), nn.Embedding(LENGTH, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.trunk = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.topic, self.negated = nn.Linear(32, TOPICS), nn.Linear(32, 1)

    def forward(self, input_ids, attention_mask):
        embedded = self.words(input_ids) + self.places.weight
        encoded = self.trunk(embedded, src_key_padding_mask=~attention_mask).amax(1)
        return {"topic": self.topic(encoded), "negated": self.negated(encoded).squeeze(1)}


topic = Task("topic", "classification", cross_entropy(), (accuracy(TOPICS),), ("other-class",),
             classes=("sea", "sky", "city", "wood"))  # fmt: skip
negated = Task("negated", "classification", binary_cross_entropy(), (f1(),), ("other-class",),
               classes=("no", "yes"), binary=True)  # fmt: skip
suite_from(
    "sentences", train=Sentences(1024, 0), validation=Sentences(256, 10_000),
    test=Sentences(256, 20_000), model=Transformer, tasks=[topic, negated], unpack_inputs=True,
    optimizer=lambda model, lr, decay: torch.optim.Adam(model.parameters(), lr, weight_decay=decay),
    epochs=6, batch_size=64, lr=2e-3, weight_decay=1e-5,
)  # fmt: skip
