"""What `typing.Annotated` may say about a parameter: its default, its allowed values, how a widget shows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Default:
    """The value of a parameter that was never set."""

    value: object


class Validator:
    """Base of the annotations that refuse a value by raising ValueError."""

    def validate(self, value):
        raise NotImplementedError


@dataclass(frozen=True)
class NotNone(Validator):
    def validate(self, value):
        if value is None:
            raise ValueError("Value must not be None")


@dataclass(frozen=True)
class WithinRange(Validator):
    minimum: float
    maximum: float

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], found {value}")


@dataclass(frozen=True)
class Minimum(Validator):
    minimum: float

    def validate(self, value):
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, found {value}")


@dataclass(frozen=True)
class Maximum(Validator):
    maximum: float

    def validate(self, value):
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, found {value}")


@dataclass(frozen=True)
class Choice(Validator):
    choices: list

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, found {value!r}")


@dataclass(frozen=True)
class Exclude(Validator):
    excludedValues: list

    def validate(self, value):
        if value in self.excludedValues:
            raise ValueError(f"Value must not be one of {self.excludedValues}, found {value!r}")


@dataclass(frozen=True)
class FloatRange:
    """A type, not an annotation: an interval, shown by ctkRangeWidget."""

    minimum: float
    maximum: float

    def __post_init__(self):
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")


@dataclass(frozen=True)
class RangeBounds(Validator):
    """The limits of a FloatRange."""

    minimum: float
    maximum: float

    def validate(self, value):
        if not self.minimum <= value.minimum <= value.maximum <= self.maximum:
            raise ValueError(f"Range must be within [{self.minimum}, {self.maximum}], found {value}")


@dataclass(frozen=True)
class Decimals:
    """How many decimals a spin box or slider shows."""

    value: int


@dataclass(frozen=True)
class SingleStep:
    """How far one step of a spin box or slider goes."""

    value: float


def find(annotations, kind):
    """Returns the first annotation of a kind, or None."""
    return next((one for one in annotations if isinstance(one, kind)), None)
