"""Requests that name the models of the GPUs that they accept."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from evaluation.traces.trace import Pod, Tree

GPU = "CUSTOM_GPU_MILLI"
"""Thousandths of a GPU."""


def model_trait(model: str) -> str:
    """The trait of a GPU of this model."""
    return f"CUSTOM_GPU_MODEL_{re.sub('[^A-Z0-9_]', '_', model.upper())}"


def with_models(pods: Sequence[Pod], trees: Sequence[Tree], share: float, seed: int) -> list[Pod]:
    """The pods, with the share `share` of those with GPUs restricted to one to three GPU models.

    The seed chooses pods and models. Models are weighted by the number of nodes that have enough GPUs for the pod, so
    that no pod requests eight GPUs of a model of which nodes have two.
    """
    rng = random.Random(f"{seed} models")
    sizes: dict[str, list[int]] = {}
    for tree in trees:
        for trait in {trait for part in tree for trait in part.traits}:
            sizes.setdefault(trait, []).append(len(tree) - 1)
    return [_restricted(pod, sizes, rng) if _gpus(pod) and rng.random() < share else pod for pod in pods]


def _gpus(pod: Pod) -> int:
    return sum(GPU in group.resources for group in pod.spec.groups)


def _restricted(pod: Pod, sizes: Mapping[str, Sequence[int]], rng: random.Random) -> Pod:
    gpus = _gpus(pod)
    nodes = {model: sum(size >= gpus for size in of) for model, of in sorted(sizes.items())}
    able = [model for model, count in nodes.items() if count]
    if not able:
        return pod
    drawn = rng.choices(able, [nodes[model] for model in able], k=rng.choice((1, 1, 2, 3)))
    models = tuple(sorted(set(drawn)))
    groups = tuple(
        group.model_copy(update={"any_traits": (models,)}) if GPU in group.resources else group
        for group in pod.spec.groups
    )
    return pod._replace(spec=pod.spec.model_copy(update={"groups": groups}))
