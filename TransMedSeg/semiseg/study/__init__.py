"""A study: methods x labels x seeds x options as ordinary run folders, and one report about them."""

from .conduct import StudyJob, run_study

__all__ = ["StudyJob", "run_study"]
