"""SeAl-KD and CKDSNN in a plain PyTorch loop: nothing of ours but the losses and the neuron.

python examples/losses_in_your_loop.py            # about a minute on the embedded digits
"""

import torch
from torch import nn

from snnkd_deploy.data import load_dataset
from snnkd_deploy.distill import CKD, DistillBatch, SeAlKD, build_method, total_loss
from snnkd_deploy.nets.neurons import Lif, lif_over_time
from snnkd_deploy.nets.surrogate import sigmoid4

T = 4


class Spiking(nn.Module):
    """Your own student: anything that gives logits (T, B, C), and features (T, B, C, H, W) for CKD."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.conv2 = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32))
        self.fc = nn.Linear(32 * 4 * 4, 10)
        self.lif = Lif(leak_v=0.5, threshold=1.0, surrogate=sigmoid4)

    def forward(self, x):
        spikes = lif_over_time(self.conv1(x).unsqueeze(0), self.lif, steps=T)
        current = self.conv2(spikes.flatten(0, 1)).unflatten(0, (T, -1))
        features = lif_over_time(current, self.lif)
        return self.fc(features.flatten(2)), features


class Teacher(nn.Module):
    """Your own ANN: convolutions, global average pooling, a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()
        )
        self.classifier = nn.Linear(64, 10)

    def forward(self, x):
        features = self.body(x)
        return self.classifier(features.mean((2, 3))), features


def main(epochs: int = 15) -> float:
    torch.manual_seed(0)
    data = load_dataset("digits")
    x, y = data.train.x / data.levels, data.train.y
    teacher, student = Teacher(), Spiking()
    loss = build_method(["seal", "ckd"])  # or SeAlKD(), or CKD(), or any name of METHODS
    assert {type(m) for m in loss.methods.values()} == {SeAlKD, CKD}

    optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(teacher(x[rows])[0], y[rows]).backward()
            optimizer.step()
    teacher.eval().requires_grad_(False)

    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    for epoch in range(epochs):
        for rows in torch.randperm(len(y)).split(64):
            teacher_logits, teacher_features = teacher(x[rows])
            logits, features = student(x[rows])
            terms = loss(
                DistillBatch(
                    student_logits=logits,
                    labels=y[rows],
                    teacher_logits=teacher_logits,
                    student_features=features,
                    teacher_features=teacher_features,
                    classifier_weight=teacher.classifier.weight,
                )
            )
            optimizer.zero_grad()
            total_loss(terms).backward()
            optimizer.step()
        print(
            f"epoch {epoch + 1}: " + ", ".join(f"{name} {float(value.detach()):.3f}" for name, value in terms.items())
        )

    student.eval()
    with torch.no_grad():
        logits, _ = student(data.test.x / data.levels)
    accuracy = float((logits.mean(0).argmax(1) == data.test.y).double().mean())
    print(f"test accuracy {100 * accuracy:.1f} %")
    return accuracy


if __name__ == "__main__":
    main()
