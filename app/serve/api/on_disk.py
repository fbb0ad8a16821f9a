"""Model on disk: what a list of models says of one that is not loaded. Knows no protocol."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from likely.engine.weights.sources.model_info import ModelInfo, fingerprint, modified


@dataclass(frozen=True, slots=True)
class ModelOnDisk:
    """A model, or an adapter, that may be asked for by this name, as its files are."""

    name: str
    nbytes: int = 0  # of all its files
    modified: float = 0.0  # seconds since 1970
    digest: str = ""
    format: str = ""
    family: str = ""
    quantization: str = ""
    parameters: int = 0
    license: str = ""

    @property
    def written(self) -> str:
        """When it was modified, by RFC 3339."""
        return datetime.fromtimestamp(self.modified, UTC).isoformat().replace("+00:00", "Z")


def model(name: str, info: ModelInfo) -> ModelOnDisk:
    return ModelOnDisk(
        name,
        info.nbytes,
        modified(info.path),
        info.weights,
        "safetensors" if info.path.is_dir() else "gguf",
        info.family,
        info.quantization,
        info.parameters,
        info.license,
    )


def adapter(name: str, folder: Path) -> ModelOnDisk:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    nbytes = sum(file.stat().st_size for file in files)
    return ModelOnDisk(name, nbytes, modified(folder), fingerprint(files), "safetensors")
