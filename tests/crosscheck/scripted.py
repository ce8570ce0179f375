"""A responder that answers what a function says, and remembers what it was asked."""

from vlmtools.errors import ServerError
from vlmtools.types import Reply


class Scripted:
    """Args: say: prompt → text, Reply or exception; None is a failed call."""

    name = "scripted"

    def __init__(self, say, *, backwards=False):
        self.say, self.backwards, self.asked, self.n_calls, self.closed = say, backwards, [], 0, 0

    def identity(self):
        return {"kind": "scripted"}

    def answer(self, requests):
        self.n_calls += 1
        for request in reversed(requests) if self.backwards else requests:
            self.asked.append(request)
            said = self.say(request.sample.prompt)
            if isinstance(said, Reply):
                yield request, said
            else:
                yield request, Reply(said, error="too busy") if said is None else Reply(said)

    def close(self):
        self.closed += 1

    @property
    def prompts(self):
        return [request.sample.prompt for request in self.asked]


class Gone(Scripted):
    """Answers `n` requests, then the server is gone."""

    def __init__(self, say, n):
        super().__init__(say)
        self.n = n

    def answer(self, requests):
        for count, pair in enumerate(super().answer(requests)):
            if count == self.n:
                raise ServerError("the server is gone")
            yield pair
