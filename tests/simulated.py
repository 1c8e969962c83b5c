"""What must hold of every VM of a simulation, read from its world's ledger: DESIGN 7."""

from drover.model.inventory import Power
from drover.platforms.simulated import World, parse


def assert_invariants(world: World, source: str, destination: str, uuid: str, *, finished: bool) -> None:
    """Never at two sites at once; no write is missing where it starts; at the end it runs where it is said to."""
    one, other = parse(source), parse(destination)
    here, there = world.vm(one, uuid), world.vm(other, uuid)
    assert here is not None
    runs = {one.name} if here.profile.runs else set()
    newest = [0]
    for _, site, begins, content in world.ledger(uuid):
        assert begins or site in runs, f"{uuid} was stopped where it did not run"
        if begins:
            assert not runs, f"{uuid} runs at {runs} and begins at {site}"
            assert content == newest, f"{uuid} lost writes on its way to {site}"
        runs = {site} if begins else set()
        newest = content
    if not finished:
        assert runs <= {one.name} and there is None
        return
    assert there is not None and here.state is Power.OFF
    assert runs == ({other.name} if here.profile.runs else set())
    if here.profile.runs:
        assert there.written == here.written
