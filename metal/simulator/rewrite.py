"""Metal text -> C++ text with the same lines, for the few places where the languages part.

Attributes go, unsuffixed literals become float, threadgroup variables move into the arena, function constants become
constants, and vector constructors become calls, for clang has none on its own vectors. Everything else stays as it is.
"""

import re
from collections.abc import Iterator

from likely.metal.simulator.tokens import MslToken, after, closing, closing_angle, join, tokenize

_SCALARS = ("char", "uchar", "short", "ushort", "int", "uint", "long", "ulong", "half", "bfloat", "float", "bool")
VECTORS = frozenset(f"{scalar}{n}" for scalar in _SCALARS for n in (2, 3, 4))


def rewrite(text: str, *, strict: bool = False) -> str:
    """The C++ text of Metal source. With `strict` it is for the type check, where threadgroup variables
    keep their address space.
    """
    tokens = tokenize(text)
    _directives(tokens, strict)
    _function_constants(tokens)
    _attributes(tokens)
    tokens = tokenize(join(tokens))
    if not strict:
        _specialisations(tokens)
    _numbers(tokens)
    _constructors(tokens)
    _threadgroup_variables(tokens, strict)
    return join(tokens)


def _directives(tokens: list[MslToken], strict: bool) -> None:
    for token in tokens:
        if token.kind != "directive":
            continue
        if re.match(r"#\s*include\s*<", token.text):
            token.text = "// " + token.text.lstrip("# ")
        elif match := re.match(r"#\s*define\s+\w+(\([^)]*\))?", token.text):
            body = tokenize(token.text[match.end() :])
            _attributes(body)
            _numbers(body)
            _constructors(body)
            token.text = match.group() + join(body)


def _blank(tokens: list[MslToken], first: int, last: int, text: str = "") -> None:
    """Replace tokens first..last by the text, keeping the line breaks."""
    breaks = "".join(re.sub(r"(?!\\\n|\n).", "", token.text) for token in tokens[first : last + 1])
    for token in tokens[first : last + 1]:
        token.text, token.kind = "", "space"
    tokens[first].text = text + breaks


def _function_constants(tokens: list[MslToken]) -> None:
    for i, token in enumerate(tokens):
        if token.text != "function_constant" or token.kind != "word":
            continue
        mark = after(tokens, i, -1)
        if mark is None or tokens[mark].text != "[[":
            continue  # the condition of a parameter, not a declaration
        index = after(tokens, after(tokens, i) or i)
        end = closing(tokens, mark)
        semicolon = after(tokens, end)
        start = mark
        while tokens[start].text not in ("constant", ";", "}"):
            start -= 1
        if index is None or semicolon is None or tokens[semicolon].text != ";" or tokens[start].text != "constant":
            continue
        declaration = join(tokens[start + 1 : mark]).strip()
        kind, name = declaration.rsplit(None, 1)
        value = f"{kind}(msl_function_constant<{tokens[index].text}>::value)"
        _blank(tokens, start, semicolon, f"static constexpr constant {kind} {name} = {value};")


def _attributes(tokens: list[MslToken]) -> None:
    for i, token in enumerate(tokens):
        if token.kind == "mark" and token.text == "[[":
            _blank(tokens, i, closing(tokens, i))


def _specialisations(tokens: list[MslToken]) -> None:
    """`struct X<device T*>` -> `struct X<msl_device_pointer<T>>`, which nothing matches: the spaces are one."""
    for i, token in enumerate(tokens):
        name = after(tokens, i) if token.text in ("struct", "class") else None
        angle = after(tokens, name) if name is not None else None
        space = after(tokens, angle) if angle is not None and tokens[angle].text == "<" else None
        if angle is None or space is None or tokens[space].text not in ("device", "constant", "threadgroup"):
            continue
        end = closing_angle(tokens, angle)
        if end is None or tokens[end - 1].text != "*":
            continue
        tokens[space].text, tokens[end - 1].text = f"msl_{tokens[space].text}_pointer<", ">"


def _numbers(tokens: list[MslToken]) -> None:
    for token in tokens:
        if token.kind != "number" or token.text[:2] in ("0x", "0X"):
            continue
        if token.text.endswith(("bf", "BF")):
            token.text = f"bfloat({_float(token.text[:-2])})"
        elif token.text[-1] in "hH":
            token.text = f"half({_float(token.text[:-1])})"
        elif token.text[-1] not in "fFuUlL":
            token.text = _float(token.text) if re.search(r"[.eE]", token.text) else token.text


def _float(digits: str) -> str:
    return digits + ("f" if re.search(r"[.eE]", digits) else ".0f")


def _constructors(tokens: list[MslToken]) -> None:
    names = VECTORS | _aliases(tokens)
    for i, token in enumerate(tokens):
        if token.kind != "word":
            continue
        before = after(tokens, i, -1)
        if before is not None and tokens[before].text in ("operator", ".", "->", "typename"):
            continue
        end: int | None = i
        if token.text in ("vec", "static_cast"):
            angle = after(tokens, i)
            end = closing_angle(tokens, angle) if angle is not None and tokens[angle].text == "<" else None
        elif token.text not in names:
            continue
        call = after(tokens, end) if end is not None else None
        if end is None or call is None or tokens[call].text != "(":
            continue
        inner = after(tokens, call)
        if inner is not None and tokens[inner].text in ("*", "&", "thread", "device", "threadgroup", "constant"):
            continue  # a pointer to an array or a function
        if token.text == "static_cast":
            named = join(tokens[i + 1 : end]).strip("< \n")
            if named in names or re.match(r"(metal\s*::\s*)?vec\s*<", named):
                token.text = "msl_make"
        else:
            token.text = "msl_make<" + ("metal::" if token.text == "vec" else "") + token.text
            tokens[end].text += ">"


def _aliases(tokens: list[MslToken]) -> frozenset[str]:
    """Names that the text itself gives to vector types: `using V = vec<float, 4>;`, `typedef half4 V;`."""
    code = " ".join(token.text for token in tokens if token.solid)
    vector = r"(?:metal :: )?(?:vec < [^;=]*? >|" + "|".join(sorted(VECTORS)) + ")"
    names = re.findall(rf"using (\w+) = {vector} ;", code) + re.findall(rf"typedef {vector} (\w+) ;", code)
    return frozenset(names)


def threadgroup_declarations(tokens: list[MslToken]) -> Iterator[int]:
    """Where each declaration of threadgroup variables begins."""
    for i, token in enumerate(tokens):
        if token.kind == "word" and token.text == "threadgroup" and _starts_statement(tokens, i):
            end = i
            while end < len(tokens) and tokens[end].text != ";":
                end = closing(tokens, end) + 1 if tokens[end].text in ("(", "[", "{", "[[") else end + 1
            if end < len(tokens) and _declared(tokens[i + 1 : end]) is not None:
                yield i


def _threadgroup_variables(tokens: list[MslToken], strict: bool) -> None:
    count = 0
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.kind == "word" and token.text == "threadgroup" and _starts_statement(tokens, i):
            end = i
            while tokens[end].text != ";":
                end = closing(tokens, end) + 1 if tokens[end].text in ("(", "[", "{", "[[") else end + 1
                if end >= len(tokens):
                    return
            variables = _declared(tokens[i + 1 : end])
            if variables is not None:
                line = token.line
                parts = []
                for kind, name, extent in variables:
                    parts.append(_variable(kind, name, extent, f"{line}_{count}", strict))
                    count += 1
                _blank(tokens, i, end, " ".join(parts))
                i = end
        i += 1


def _starts_statement(tokens: list[MslToken], at: int) -> bool:
    before = at - 1
    while before >= 0 and (not tokens[before].solid or tokens[before].text in ("alignas", "static")):
        before -= 1
    return before < 0 or tokens[before].text in (";", "{", "}")


def _declared(tokens: list[MslToken]) -> list[tuple[str, str, str]] | None:
    """(type, name, extents) of each variable, or None where the text declares something else (a pointer)."""
    depth, commas = 0, []
    for i, token in enumerate(tokens):
        if token.kind != "mark":
            continue
        depth += (token.text in "([{<") - (token.text in ")]}>")
        if depth == 0 and token.text in ("*", "&", "="):
            return None
        if depth == 0 and token.text == ",":
            commas.append(i)
    declarators = [tokens[a + 1 : b] for a, b in zip([-1, *commas], [*commas, len(tokens)], strict=True)]
    kind = ""
    variables = []
    for declarator in declarators:
        code = re.sub(r"\s+", " ", join([t for t in declarator if t.solid or t.text.isspace()])).strip()
        match = re.fullmatch(r"(.*?)(\w+) ?((?:\[.*\])?)", code)
        if match is None or "(" in match[1]:
            return None
        kind = kind or match[1].strip()
        variables.append((kind, match[2], match[3]))
    return variables if kind else None


def _variable(kind: str, name: str, extent: str, unique: str, strict: bool) -> str:
    declared = f"typedef {kind} msl_type_{unique}{extent};"
    if strict:
        return f"{declared} __local msl_type_{unique}& {name} = *(__local msl_type_{unique}*)nullptr;"
    return (
        f"{declared} static void* msl_slot_{unique}; msl_type_{unique}& {name} = "
        f'msl_threadgroup<msl_type_{unique}>(msl_slot_{unique}, "{name}", __FILE__, __LINE__);'
    )
