"""
Two actors and the messages between them. To be copied.

    pip install .
    python examples/ping_pong.py

Each is an object with a `receive`. Nobody calls it but the system, one message after the other, so there is nothing to lock.
"""

from typing import assert_never

import trio
from attrs import frozen

from callsheet import Actor, ActorSystem, ChildSpec, Ref, Request

# Messages are frozen values, one sentence each. What an actor takes is a union of them.


@frozen
class Ball:
    """On its way over the table; `hits` so far."""

    hits: int
    back_to: "Ref[Ball]"


@frozen(eq=False)
class Play(Request[str]):
    """Play until the ball was hit this often. A Request is a message that is answered, here with a text."""

    hits: int
    opponent: Ref[Ball]


class Ping(Actor[Ball | Play]):
    """Serves, and says who had the last hit."""

    def receive(self, message: Ball | Play) -> None:
        """One message. What it keeps in between is its own: nobody else can reach it."""
        match message:
            case Play(opponent=opponent):
                self.game = message
                opponent.tell(Ball(0, back_to=self.ref))
            case Ball(hits, back_to) if hits < self.game.hits:
                print(f"ping {hits + 1}")
                back_to.tell(Ball(hits + 1, back_to=self.ref))
            case Ball(hits):
                self.game.reply.answer(f"pong had the last of {hits} hits")
            case _:
                assert_never(message)  # a type checker refuses this line as soon as a message is forgotten


class Pong(Actor[Ball]):
    """Returns every ball."""

    def receive(self, message: Ball) -> None:
        """Hit it back."""
        print(f"pong {message.hits + 1}")
        message.back_to.tell(Ball(message.hits + 1, back_to=self.ref))


async def main() -> None:
    """A program that has actors, among other things: they live as long as this block."""
    async with ActorSystem() as system:
        ping: Ref[Ball | Play] = await system.start_child(ChildSpec("ping", Ping))
        pong: Ref[Ball] = await system.start_child(ChildSpec("pong", Pong))
        print(await ping.ask(Play(4, opponent=pong), timeout=1))


if __name__ == "__main__":
    trio.run(main)
