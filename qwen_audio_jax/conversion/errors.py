"""The one exception of conversion."""


class ConversionError(ValueError):
    """Something cannot be converted. The sentence names the file, what is wrong and the fix."""
