"""DPO the usual way, in transformers and PEFT: what `preference_step.py` is measured beside.

Each answer is a row with the prompt and the clip, padded to the longest text and to 30 s; the
reference is the model with its adapters switched off, in every step.
"""

import dataclasses

import numpy as np
import torch
from sft_vs_transformers import AdaptersThere
from train_step_vs_transformers import WINDOW

from data_pipelines.examples import Example


def in_window(example: Example) -> Example:
    """With what a log-mel is in silence behind the clip, up to 30 s."""
    (clip,) = example.clips
    window = np.full((WINDOW, clip.shape[1]), -0.6, np.float32)
    window[: len(clip)] = clip
    return dataclasses.replace(example, clips=(window,))


class Theirs(AdaptersThere):
    """A step of it."""

    def __init__(self, folder: str, made: list[Example], beta: float):
        super().__init__(folder, [in_window(example) for example in made])
        self.labels, self.beta = self.inputs.pop("labels"), beta
        # With the reference; a window of 30 s is 1,500 positions.
        self.positions = 2 * len(made) * WINDOW // 2

    def __call__(self) -> tuple[float, float]:
        """Loss and gradient norm of a step."""
        self.optimizer.zero_grad()
        with torch.no_grad(), self.model.disable_adapter():
            reference = self.log_probabilities()
        difference = (self.log_probabilities() - reference) @ torch.tensor([1.0, -1.0])
        loss = -torch.nn.functional.logsigmoid(self.beta * difference).mean()
        loss.backward()
        norm = self.norm()
        self.optimizer.step()
        return float(loss.detach()), norm

    def log_probabilities(self) -> torch.Tensor:
        """Of each pair's answers, [pairs, 2]."""
        logits = self.model(**self.inputs, use_cache=False).logits[:, :-1].float()
        labels = self.labels[:, 1:]
        picked = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        return torch.where(labels >= 0, picked, 0.0).sum(dim=1).reshape(-1, 2)
