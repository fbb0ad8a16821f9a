"""Tuned models by name: a checkpoint, or an adapter's directory on the checkpoint that it was trained on."""

from likely.engine.base.errors import CheckpointError
from likely.engine.base.files import artifacts
from likely.engine.weights.adapters import adapters, lora
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.engine.weights.sources.fetch.progress import Report, silent
from likely.models.native_path.native import renew


def open_model(name: str, progress: Report = silent) -> Checkpoint:
    """The checkpoint `name`, or the adapter directory `name` on the model that it was trained on."""
    folder = artifacts.place(name)
    if not (folder / adapters.CONFIG).exists():
        return load(name, progress)
    stored = adapters.read(folder)
    if not stored.model:
        raise CheckpointError(f'{folder / adapters.CONFIG} does not say which model it is for: add "model"')
    checkpoint = load(stored.model, progress)
    adapter = adapters.build(checkpoint.model, stored, str(folder))
    if isinstance(adapter, lora.Adapter):
        lora.attach(adapter)
    renew(checkpoint.model)
    return checkpoint
