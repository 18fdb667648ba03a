"""Two tasks on one BERT in the Trainer of Hugging Face, weighted by gradients.

    pip install "mtlbench[transformers]"
    python examples/in_transformers.py

Sentences of made-up words: which of three words is in it, and the share of words below 10.
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel, BertConfig, TrainingArguments

from mtlbench import build_strategy
from mtlbench.integrations.transformers import MultiTaskTrainer

torch.manual_seed(0)
words, topic = torch.randint(3, 20, (600, 12)), torch.randint(3, (600,))
words[torch.arange(600), torch.randint(12, (600,))] = topic
share = (words < 10).float().mean(1)
rows = [{"index": n, "words": words[n], "topic": topic[n], "share": share[n]} for n in range(600)]


class TopicAndShare(nn.Module):
    def __init__(self):
        super().__init__()
        size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
        config = BertConfig(vocab_size=20, num_hidden_layers=1, **size)
        self.bert = AutoModel.from_config(config, add_pooling_layer=False)
        self.topic, self.share = nn.Linear(32, 3), nn.Linear(32, 1)

    def forward(self, words):
        features = self.bert(words).last_hidden_state.mean(1)
        return {"topic": self.topic(features), "share": self.share(features).squeeze(1)}


class TopicAndShareTrainer(MultiTaskTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(inputs["words"])
        losses = {
            "topic": functional.cross_entropy(outputs["topic"], inputs["topic"], reduction="none"),
            "share": (outputs["share"] - inputs["share"]).square(),
        }
        loss = self.strategy.loss(losses, inputs["index"])
        return (loss, outputs) if return_outputs else loss


model = TopicAndShare()
options = {"num_train_epochs": 8, "per_device_train_batch_size": 32, "learning_rate": 3e-3}
quiet = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True}
arguments = TrainingArguments("checkpoints", remove_unused_columns=False, **options, **quiet)
tasks = {"topic": "classification", "share": "regression"}
strategy = build_strategy("cagrad", tasks=tasks, model=model, device=arguments.device)
TopicAndShareTrainer(model, arguments, train_dataset=rows[:500], strategy=strategy).train()

with torch.no_grad():
    outputs = model.eval()(words[500:])
print(f"{int((outputs['topic'].argmax(1) == topic[500:]).sum())} of 100 topics are right")
