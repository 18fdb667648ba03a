"""A tiny BERT with two heads in the Trainer; as a script, one of two processes that train it.

torchrun --standalone --nproc-per-node=2 bert_of_two_tasks.py FILE STRATEGY…
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import AutoModel, BertConfig, EvalPrediction, TrainingArguments

from mtlbench import build_strategy
from mtlbench.integrations.transformers import MultiTaskTrainer

TASKS = {"topic": "classification", "length": "regression"}
INSTANCES, BATCH = 24, 8
LABELS = ["topic", "length"]


class Sentences(Dataset[dict[str, Tensor]]):
    """Words [N, 4], labels of two tasks, numbers of the instances."""

    def __init__(self) -> None:
        chance = torch.Generator().manual_seed(0)
        self.words = torch.randint(20, (INSTANCES, 4), generator=chance)
        self.topic = torch.randint(3, (INSTANCES,), generator=chance)
        self.length = torch.randn(INSTANCES, generator=chance, dtype=torch.float64)

    def __len__(self) -> int:
        return INSTANCES

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        labels = {"topic": self.topic[n], "length": self.length[n]}
        return {"input_ids": self.words[n], **labels, "index": torch.tensor(n)}


class TwoHeads(nn.Module):
    """A BERT that nobody has trained, in float64, and a head for each task."""

    def __init__(self) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.bert = AutoModel.from_config(config, add_pooling_layer=False)
            self.heads = nn.ModuleDict({"topic": nn.Linear(8, 3), "length": nn.Linear(8, 1)})
        self.double()

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        seen = self.bert(input_ids=input_ids).last_hidden_state[:, 0]
        return {"topic": self.heads["topic"](seen), "length": self.heads["length"](seen)[:, 0]}


def losses_of(outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "topic": functional.cross_entropy(outputs["topic"], labels["topic"], reduction="none"),
        "length": (outputs["length"] - labels["length"]).square(),
    }


class SentenceTrainer(MultiTaskTrainer):
    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        outputs = model(inputs["input_ids"])
        loss = self.strategy.loss(losses_of(outputs, inputs), inputs["index"])
        return (loss, outputs) if return_outputs else loss


def accuracy_of(net: TwoHeads) -> float:
    rows = Sentences()
    with torch.no_grad():
        right = net(rows.words)["topic"].argmax(1) == rows.topic
    return 100 * float(right.double().mean())


def accuracy(evaluated: EvalPrediction) -> dict[str, float]:
    right = evaluated.predictions[0].argmax(1) == evaluated.label_ids[0]
    return {"topic/accuracy": 100 * float(right.mean())}


def trainer_of(name: str, directory: Path, **options: Any) -> SentenceTrainer:
    """Two epochs in the order of the rows, evaluated after each."""
    settings: dict[str, Any] = {
        "output_dir": str(directory),
        "num_train_epochs": 2,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 1e9,
        "train_sampling_strategy": "sequential",
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": LABELS,
        "use_cpu": True,
    }
    arguments = TrainingArguments(**settings | options)
    net = TwoHeads()
    strategy = build_strategy(
        name,
        tasks=TASKS,
        num_instances=INSTANCES,
        model=net,
        device=arguments.device,
        dtype=torch.float64,
    )
    rows = Sentences()
    return SentenceTrainer(
        net,
        arguments,
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=accuracy,
        strategy=strategy,
    )


def parameters_of(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def main() -> None:
    file, *names = sys.argv[1:]
    torch.set_num_threads(1)
    results = {}
    for name in names:
        half = {"per_device_train_batch_size": BATCH // 2}
        trainer = trainer_of(name, Path(file).parent, **half)
        trainer.train()
        results[name] = parameters_of(trainer.model)
    torch.save(results, f"{file}.{os.environ['RANK']}")


if __name__ == "__main__":
    main()
