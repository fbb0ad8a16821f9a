"""Finding: search on every branch, bookmarks, and putting away what is not wanted in sight."""

from app.tui.chat import places
from app.tui.chat.places import SearchHit
from app.tui.views.steering import Steering
from app.tui.widgets.tree import TreePane
from engine.conversation import Conversation, Fork, Way


class Finding(Steering):
    """The part of the chat screen for coming back to a place."""

    def __init__(self) -> None:
        super().__init__()
        self._put_away: list[Way] = []  # the last one is brought back first

    def action_find(self, query: str = "") -> None:
        """Search this conversation, all branches of it."""
        from app.tui.dialogs.finder import Finder

        talk = self.talk.conversation
        finder = Finder("find", "words, on any branch", lambda query: places.search(talk, query), query)
        self.app.push_screen(finder, self._at)

    def action_marks(self) -> None:
        """List the bookmarks."""
        from app.tui.dialogs.finder import Finder

        talk = self.talk.conversation
        if not talk.marks:
            self.hints.say("there are no bookmarks here: k in the transcript leaves one")
            return
        self.app.push_screen(Finder("bookmarks", "narrow", lambda query: places.marked(talk, query)), self._at)

    def _at(self, found: SearchHit | None) -> None:
        """Go where something was found, its branch checked out."""
        if found is None:
            return
        self._become(self.talk.conversation.reveal(found.node, found.unit))
        place = places.on_screen(self.talk.shown, found.node, found.unit)
        if place is not None:
            self.transcript.focus()
            self.transcript.move_to(place)

    def action_mark(self, words: str | None = None) -> None:
        """Leave a bookmark at the token that is looked at, or take it away; `words` name it."""
        place = self.place()
        if place is None:
            return
        shown = self.talk.shown[place.block]
        node, unit = places.of(shown.message, [token.text for token in shown.block.tokens], place.token)
        talk = self.talk.conversation
        gone = words is None and (node, unit) in talk.marks
        self.talk.conversation = talk.mark(node, unit, None if gone else words or "")
        self.save()
        self.hints.say("the bookmark is gone" if gone else "bookmarked · K lists them")

    def action_prune(self) -> None:
        """Put the message under the cursor away, with all that follows it."""
        place = self.transcript.cursor
        if place is None:
            self.hints.say("the cursor says which message: arrow keys move it")
            return
        node = self.talk.shown[place.block].message.segments[0].node
        self.prune(node.fork, node.id)

    def on_tree_pane_pruned(self, event: TreePane.Pruned) -> None:
        self.prune(event.fork, event.option)

    def prune(self, fork: Fork, option: str | None) -> None:
        """Put one way out of a fork away. Nothing is lost: u brings it back."""
        try:
            pruned = self.talk.conversation.prune(fork, option)
        except ValueError as error:
            self.hints.say(str(error))
            return
        self._put_away.append((fork, option))
        self._become(pruned)
        self.hints.say("put away, with all that follows · u brings it back")

    def action_restore(self) -> None:
        """Bring back what was put away last; what was put away in earlier sessions comes back all at once."""
        talk = self.talk.conversation
        recent = [way for way in self._put_away if way in talk.pruned]
        if not talk.pruned:
            self.hints.say("nothing is put away")
            return
        for fork, option in recent[-1:] or sorted(talk.pruned, key=str):
            talk = talk.restore(fork, option)
            talk = talk.choose(fork, option)
        self._put_away = recent[:-1]
        self._become(talk)
        self.hints.say("it is back")

    def _become(self, talk: Conversation) -> None:
        """Show another state of the conversation."""
        self.talk.become(talk)
        self.transcript.cursor = None
        self.save()
        self.reshow()
