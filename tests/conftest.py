"""What all tests share: the same examples in every run, and no deadline that a busy machine could miss."""

from hypothesis import settings

settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")
