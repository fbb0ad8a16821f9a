r"""How text is cut into words before a byte-level vocabulary joins bytes: the rules that `tokenizer.ggml.pre` names.

A wrong rule gives other ids for the same text and says nothing, so a name that is not here is refused. Each rule is the
regular expressions of the model's own tokenizer.json, where it is known, else those of llama.cpp (src/llama-vocab.cpp);
they are applied one after the other, each to what the ones before left whole.
"""

from dataclasses import dataclass

from likely.engine.base.errors import CheckpointError
from likely.metal.errors import nearest_names

__all__ = ["PRETOKENIZERS", "Pretokenizer", "pretokenizer"]


@dataclass(frozen=True)
class Pretokenizer:
    """Regular expressions in Oniguruma's syntax, and what goes with them in the files that name the rule.

    whole_words  a word that is a token is that token, whatever the merges would make of it
    bos          texts begin with the BOS token unless the file says otherwise
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    bos: bool = False


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_ASCII_MARKS = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""


def _gpt4(digits: str, letters: str = r"\p{L}", marks: str = r"[^\s\p{L}\p{N}]", tail: str = _BLANKS) -> str:
    """cl100k's shape, which Llama 3, Qwen and many others vary."""
    return rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{digits}| ?{marks}+[\r\n]*|{tail}"


def _gpt4o(digits: str, suffix: str = "") -> str:
    """o200k's shape: a word is capitals, then small letters."""
    lead = r"[^\r\n\p{L}\p{N}]?"
    words = rf"{lead}[{_UPPER}]*[{_LOWER}]+{suffix}|{lead}[{_UPPER}]+[{_LOWER}]*{suffix}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"


def _deepseek3(blanks: str = r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+") -> str:
    return rf"{_ASCII_MARKS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+|{blanks}"


_LLAMA3 = _gpt4(r"\p{N}{1,3}")
_QWEN2 = _gpt4(r"\p{N}")
_CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
# The letters of scripts with capitals, as DeepSeek LLM lists them; escaped, for some do not survive normalisation.
_CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"

PRETOKENIZERS: dict[str, Pretokenizer] = {}


def _name(names: str, *patterns: str, whole_words: bool = False, bos: bool = False) -> None:
    for name in names.split():
        PRETOKENIZERS[name] = Pretokenizer(patterns, whole_words, bos)


_name("gpt-2 phi-2 mpt olmo jais trillion granite-docling gigachat a.x-4.0 mellum exaone4", _GPT2)
_name("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", r"\p{N}", _GPT2)
_name("llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", _LLAMA3, whole_words=True, bos=True)
_name("dbrx smaug-bpe glm4 chatglm-bpe", _LLAMA3)
_name("minicpm5", r"\p{N}{1,3}", _gpt4(r"\p{N}+"), whole_words=True)
_name("jais-2", _gpt4(r"\p{N}{1,3}", tail=r"\s*[\r\n]+|" + "|".join(
    [rf"\s{{{2**i}}}(?!\S)" for i in range(9, 1, -1)] + [r"\s{1,2}(?!\S)", r"\s"])))  # fmt: skip
_name("qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", _QWEN2)
_name("qwen35", _gpt4(r"\p{N}", r"[\p{L}\p{M}]", r"[^\s\p{L}\p{M}\p{N}]"))
_name("seed-coder", _QWEN2.replace(r"[^\s\p{L}\p{N}]+[\r\n]*", r"[^\s\p{L}\p{N}\r\n]+"))
_name("laguna", r"[^\n]+|[\n]+", _QWEN2)
_name("bailingmoe bailingmoe2 llada-moe",
      r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
      r"|\s*[\r\n]|\s+(?!\S)|\s+")  # fmt: skip
_name("exaone-moe", rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
      r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+")  # fmt: skip
_name("gpt-4o llama4 kanana2 talkie minimax-m2", _gpt4o(r"\p{N}{1,3}", _SUFFIX + "?"))
_name("tiny_aya cohere2moe", r"\d{1,3}(?=(?:\d{3})*\b)", _gpt4o(r"\p{N}{1,3}", _SUFFIX + "?"))
_name("tekken", _gpt4o(r"\p{N}"), whole_words=True, bos=True)
_name(
    "youtu",
    r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" + _CJK,
    _gpt4o(r"\p{N}", _SUFFIX + "?"),
    whole_words=True,
)
_name(
    "deepseek-llm",
    r"[\r\n]",
    rf"\s?[{_CASED}]+",
    r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
    r"\s+$",
    "[一-龥ࠀ-一가-\ud7ff]+",
    r"\p{N}+",
)
_name("deepseek-coder", r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}")
_name("deepseek-v3 hunyuan-dense joyai-llm hy_v4", r"\p{N}{1,3}", _CJK, _deepseek3())
_name("spark2_5", r"\p{N}{1,3}", _CJK, _deepseek3(r" ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"), r"\p{N}")
_name("falcon", r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")
_name("default", r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")
_name("bloom poro-chat gpt3-finnish", _BLOOM)
_name("viking", _BLOOM, r"\p{N}")
_name("chameleon", r"<sentinel:[0-9]+>", r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}",
      r"[\p{P}!-/:-@\[-`{-~]", _GPT2, bos=True)  # fmt: skip


def pretokenizer(name: str | None) -> Pretokenizer:
    """The rule of that name. Raises CheckpointError for one that is not known, or is not named at all."""
    if name is None:
        raise CheckpointError(
            "the GGUF file does not say how its text is cut into words (tokenizer.ggml.pre): "
            "convert the model anew with a llama.cpp of May 2024 or later"
        )
    if name not in PRETOKENIZERS:
        near = nearest_names(name, PRETOKENIZERS)
        hint = f" (nearest: {near[0]})" if near else ""
        raise CheckpointError(
            f"the GGUF file's pre-tokenizer {name!r} is not known here{hint}: "
            "use the model's Hugging Face folder, whose tokenizer.json needs no such name"
        )
    return PRETOKENIZERS[name]
