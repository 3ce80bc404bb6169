"""The errors a user can meet: each is one line that names what was wrong, what is allowed and what was given."""


class UserError(ValueError):
    """A mistake in what the user asked for; the command line prints it and exits with 2."""


class DataError(UserError):
    """A data file that is missing, truncated, of the wrong format or of the wrong checksum."""


class FormatError(UserError):
    """A model file that breaks the rules of its format; says what and where."""
