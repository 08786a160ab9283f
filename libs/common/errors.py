"""The three ways in which something goes wrong, told apart by what is done about them.

`ContractError`: the input is bad. It goes to `dead.letters` with its reason; the stream goes on.
`SettingError`: the start is wrong. It is shown to a person, and nothing starts.
`Deposed`: another instance leads now. Stop acting, rejoin; never retry.
Broken invariants are `assert`s, and passing trouble (a broker away) is retried inside the adapters.
"""


class ContractError(ValueError):
    """A message that cannot be read; the text is the reason that a person will see."""


class SettingError(ValueError):
    """A setting that stops the start; the text names it, its value and its range."""


class Deposed(RuntimeError):  # noqa: N818 - a fact of life, not an error
    """This instance no longer leads: its last write was not committed, and must not be repeated."""
