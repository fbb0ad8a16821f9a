"""Tools in a chat: servers that a person names, calls that wait for a yes, results that the model reads."""

import json
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from likely.app.jobs.calls import call
from likely.app.jobs.tool_calls import hear_results, read_calls
from likely.app.jobs.worker import Failed
from likely.app.tools.consent import MAX_CALLS, Consent
from likely.app.tui.base.context import before
from likely.app.tui.chat.tool_bench import CalledAnswer, ToolBench
from likely.app.tui.views.chatting.chat_parts import ChatParts
from likely.app.tui.widgets.lists.overlays import Pick
from likely.app.words.units import bits
from likely.engine.base.concurrency.background_thread import Future
from likely.engine.base.errors import LikelyError, ParameterError
from likely.engine.chat.conversation import Fork, Node
from likely.engine.chat.tools.tool import Tool, ToolCall, ToolResult
from likely.engine.chat.tools.use import CallsRead, ResultsHeard, heard_text

LOOKS_S = 0.05  # between two looks at what a server is waited for
SHOWN = 1200  # characters of arguments that are shown
T = TypeVar("T")


def choose(screen: ChatParts, words: str) -> None:
    """Take the servers that are named, `off` for none; without a name say which tools there are, and where there are
    none take the servers of the person's file. Raises what they raise, ParameterError where that cannot be."""
    facts = screen.host.engine.current
    if not words and screen.bench is not None:
        screen.hints.say(_offered(screen, screen.bench))
        return
    if screen.chat.running or (screen.bench is not None and screen.bench.called is not None):
        raise ParameterError("an answer is under way: esc stops it")
    if words != "off" and (facts is None or facts.mask is not None or not facts.chat):
        raise ParameterError("tools want a model that chats, from left to right: load one first")
    bench = None if words == "off" else ToolBench(words.split(), screen.host.home)
    if screen.bench is not None:
        screen.bench.close()
    screen.bench, screen.chat.tools = bench, ()
    screen.hints.say("no tools" if bench is None else "starting tool servers…")
    if bench is None:
        screen.composer.next()
        return

    def listed(tools: tuple[Tool, ...]) -> None:
        bench.tools = screen.chat.tools = tools
        bench.lists = False
        screen.hints.say(_offered(screen, bench), alarm=bool(bench.servers.faults))
        screen.composer.next()

    bench.lists = True
    _later(screen, bench, bench.listed(), listed)


def waits(screen: ChatParts) -> bool:
    """Whether what is said now waits: for an answer that is under way, or for tools that it is to know of."""
    return screen.chat.running or starting(screen)


def starting(screen: ChatParts) -> bool:
    """Whether servers are being started, and no tool is known yet."""
    return screen.bench is not None and screen.bench.lists and not screen.bench.tools


def _offered(screen: ChatParts, bench: ToolBench) -> str:
    """The tools that there are, in a line."""
    facts, faults = screen.host.engine.current, [f"{name}: {line}" for name, line in bench.servers.faults.items()]
    names = ", ".join(tool.name for tool in bench.tools)
    if starting(screen):
        return "starting tool servers…"
    free = facts is None or facts.calls
    bound = [] if free or not names else ["its template has no calls: a grammar binds the answers"]
    return " · ".join([f"tools: {names or 'no server offers a tool'}", *bound, *faults])


def tick(screen: ChatParts) -> None:
    """Once a second: where a server has said that its tools are others, they are listed again."""
    bench = screen.bench
    if bench is not None and bench.servers.changed and not bench.lists and bench.called is None:
        _list_again(screen, bench, lambda: None)


def _list_again(screen: ChatParts, bench: ToolBench, then: Callable[[], None]) -> None:
    """Ask the servers what they offer now, and say what has happened to them."""

    def listed(tools: tuple[Tool, ...]) -> None:
        bench.lists, before, news = False, bench.tools, bench.servers.news()
        bench.tools = screen.chat.tools = tools
        if tools != before:
            news.append(f"the tools are others now: {', '.join(tool.name for tool in tools) or 'none'}")
        if news:
            screen.hints.say(" · ".join(news), alarm=True)
        then()

    bench.lists = True
    _later(screen, bench, bench.listed(), listed)


def opened(screen: ChatParts) -> None:
    """Another conversation is open: it has the tools, and what was allowed in the last one is asked again."""
    if screen.bench is not None:
        screen.bench.take_back()
        screen.bench.consents.forget()
        screen.chat.tools = screen.bench.tools


def read(screen: ChatParts, failed: bool) -> None:
    """Have the calls of the answer read that has just ended; without tools it is over."""
    if not _reads(screen, failed):
        screen.answered(failed)


def _reads(screen: ChatParts, failed: bool) -> bool:
    """Begin to read calls, where there may be any."""
    bench, chat, facts = screen.bench, screen.chat, screen.host.engine.current
    leaf = chat.conversation.leaf
    if bench is None or not bench.tools or failed or facts is None or chat.stepping or leaf is None:
        return False
    whole = leaf.role == "assistant" and leaf.steps and not leaf.joins and leaf.finish not in ("cancelled", "pruned")
    if not whole or not leaf.prompt or chat.settings.strategy.SEARCHES:
        return False
    bench.reads = True

    def heard(job: int, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, CallsRead) and screen.bench is bench and bench.reads:
                bench.reads = False
                _read(screen, bench, leaf.id, event)
            elif isinstance(event, Failed):
                bench.reads = False
                screen.answered(False)

    screen.host.engine.submit(call(read_calls, facts.name, leaf.prompt, leaf.steps, bench.tools), heard)
    return True


def stop(screen: ChatParts) -> bool:
    """Take back a call that waits or is under way; gives whether there was one."""
    if screen.bench is None or not screen.bench.take_back():
        return False
    screen.hints.say("the call was taken back · ^r draws the answer again")
    return True


def _read(screen: ChatParts, bench: ToolBench, node: str, found: CallsRead) -> None:
    screen.chat.change(lambda talk: talk.chose(node, found.choice), keeps_run=True)
    screen.save()
    if screen.chat.running or screen.chat.conversation.leaf is not screen.chat.conversation.nodes[node]:
        return  # the answer is being drawn again
    screen.inspector.inspect()
    if found.answer.problem and not found.answer.said:
        screen.hints.say(found.answer.problem, alarm=True)
    if not found.answer.calls:
        screen.answered(False)
        return
    made = [message.role for message in screen.chat.conversation.messages()]
    since = made[len(made) - made[::-1].index("user") :] if "user" in made else made
    if since.count("tool") >= MAX_CALLS:
        screen.hints.say(f"it called {MAX_CALLS} times in a row: say something, or ^r draws its last call again")
        screen.answered(False)
        return
    bench.called = CalledAnswer(node, found)
    _go_on(screen, bench)


def _go_on(screen: ChatParts, bench: ToolBench) -> None:
    """The next call of the answer, or, where all have results, the model's turn."""
    called = bench.called
    if called is None:
        return
    asked = called.next
    if asked is None:
        _list_again(screen, bench, lambda: _hear(screen, bench, called))  # a call may have changed what there is
        return
    tool = bench.tool(asked)
    if tool is None:
        called.results.append(ToolResult(f"there is no tool {asked.name}", is_error=True))
        _go_on(screen, bench)
        return
    try:
        allowed = bench.consents.holds(bench.key(tool))
    except LikelyError as error:
        screen.hints.say(str(error), alarm=True)
        allowed = False
    if allowed:
        _call(screen, bench, called, tool, asked)
    else:
        _ask(screen, bench, called, tool, asked)


def _ask(screen: ChatParts, bench: ToolBench, called: CalledAnswer, tool: Tool, asked: ToolCall) -> None:
    """Ask the person whether a call may be made: no stands first, so that an enter of the prompt's allows nothing."""
    costs = {field.name: bits(-field.logprob) for field in called.read.choice.calls[len(called.results)][1]}
    rows: list[tuple[str, str]] = []
    for name, value in asked.arguments.items():
        text = json.dumps(value, ensure_ascii=False)
        more = f" … and {len(text) - SHOWN:,} characters more" if len(text) > SHOWN else ""
        cost = f"  ({costs[name]:.1f} bits)" if name in costs else ""
        rows += [("", line) for line in textwrap.wrap(f"{name} = {text[:SHOWN]}{more}{cost}", 68)]
    words = {"no": "no", "once": "yes, this once", "conversation": "yes, in this conversation", "always": "always"}
    title = f"{tool.name} of {tool.server} is to be called ({bench.where(tool)})"

    def answered(choice: str | None) -> None:
        if bench.called is not called:
            return
        if choice is None:
            stop(screen)
            return
        consent = Consent(choice)
        try:
            bench.consents.give(bench.key(tool), consent, f"{tool.name} of {tool.server}: {bench.where(tool)}")
        except LikelyError as error:
            screen.hints.say(str(error), alarm=True)
        if consent is Consent.NO:
            called.results.append(ToolResult("the person did not allow this call", is_error=True))
            _go_on(screen, bench)
        else:
            _call(screen, bench, called, tool, asked)

    screen.app.push_screen(Pick(title, [*rows, *words.items()]), answered)


def _call(screen: ChatParts, bench: ToolBench, called: CalledAnswer, tool: Tool, asked: ToolCall) -> None:
    screen.hints.say(f"{tool.name} is being called… · esc takes it back")

    def came(result: ToolResult) -> None:
        if bench.called is called:
            called.results.append(result)
            _go_on(screen, bench)

    _later(screen, bench, bench.result(tool, asked), came)


def _hear(screen: ChatParts, bench: ToolBench, called: CalledAnswer) -> None:
    """Put the results into the conversation, and have the model go on."""
    chat, facts = screen.chat, screen.host.engine.current
    node = chat.conversation.nodes.get(called.node)
    if bench.called is not called:
        return
    if facts is None or node is None or chat.conversation.leaf is not node:
        stop(screen)
        return
    prompt, results = before(chat.conversation, node.fork, chat.transcript.opens), tuple(called.results)

    def heard(job: int, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Failed):
                stop(screen)
                screen.hints.say(event.line, alarm=True)
            elif isinstance(event, ResultsHeard) and bench.called is called:
                bench.called = None
                _put(screen, called, results, event)

    screen.host.engine.submit(call(hear_results, facts.name, prompt, bench.tools, called.read.answer, results), heard)


def _put(screen: ChatParts, called: CalledAnswer, results: tuple[ToolResult, ...], heard: ResultsHeard) -> None:
    """The results as a message of the conversation, and the model's answer to them."""
    chat, leaf = screen.chat, screen.chat.conversation.leaf
    if leaf is None or leaf.id != called.node or chat.running:
        return
    lines = [f"{each}\n{heard_text(result)}" for each, result in zip(called.read.answer.calls, results, strict=True)]
    label, fork, own = json.dumps(heard.messages, ensure_ascii=False), Fork(called.node), heard.heard
    text = "" if own.steps else "\n".join(lines)  # a template that leaves results out says nothing of their tokens
    node = Node(chat.new_id(), fork, "tool", text, own.steps, finish="eot", label=label, model=chat.model,
                prompt=own.before)  # fmt: skip
    chat.change(lambda talk: talk.add(node))
    chat.answer(Fork(node.id))
    screen.begun(True)


def _later(screen: ChatParts, bench: ToolBench, future: Future[T], then: Callable[[T], None]) -> None:
    """Go on with what is waited for, once it is there and the bench is still the chat's."""

    def look() -> None:
        if not future.done():
            return
        timer.stop()
        if screen.bench is not bench:
            return
        try:
            then(future.result())
        except LikelyError as error:
            bench.lists = False
            screen.hints.say(str(error), alarm=True)
            screen.composer.next()

    timer = screen.app.set_interval(LOOKS_S, look)
