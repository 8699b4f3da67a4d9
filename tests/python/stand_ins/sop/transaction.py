from enum import Enum


class DatabaseType(Enum):
    Standalone = 0
    Clustered = 1


class ErasureCodingConfig:
    def __init__(self, **settings: object) -> None:
        self.settings = settings
