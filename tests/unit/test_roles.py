"""Roles and scopes: what covers what, and that a token's scope never goes beyond its user's."""

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from drover.accounts import Role, Scope

NAMES = st.text("ab-[]*?!1", max_size=6)
ENTRIES = st.lists(NAMES, max_size=3).map(tuple)


def test_each_role_covers_itself_and_those_before_it() -> None:
    viewer, operator, administrator = Role
    assert [role for role in Role if administrator.covers(role)] == [viewer, operator, administrator]
    assert [role for role in Role if operator.covers(role)] == [viewer, operator]
    assert [role for role in Role if viewer.covers(role)] == [viewer]


def test_a_scope_names_plans_and_sites_or_patterns_of_them() -> None:
    scope = Scope(plans=("web-*", "db"), sites=("alpha",))
    assert scope.allows_plan("web-1") and scope.allows_plan("db")
    assert not scope.allows_plan("DB") and not scope.allows_plan("my-web-1") and not scope.allows_plan("")
    assert scope.allows_site("alpha") and not scope.allows_site("beta")


@given(name=NAMES)
def test_the_empty_scope_is_everything_and_a_name_allows_itself(name: str) -> None:
    assert Scope().allows_plan(name) and Scope().allows_site(name)
    assert Scope(plans=(name,)).allows_plan(name) and Scope(sites=(name,)).allows_site(name)


@given(name=NAMES, entries=ENTRIES, outer=ENTRIES)
def test_a_scope_within_another_allows_what_both_allow(
    name: str, entries: tuple[str, ...], outer: tuple[str, ...]
) -> None:
    def allowed(patterns: tuple[str, ...]) -> bool:
        return not patterns or any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)

    both = allowed(entries) and allowed(outer)
    assert Scope(plans=entries, within=Scope(plans=outer)).allows_plan(name) == both
    assert Scope(sites=entries, within=Scope(sites=outer)).allows_site(name) == both
