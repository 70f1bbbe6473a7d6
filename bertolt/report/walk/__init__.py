"""A walk: one text through a model, with everything on the way written down and shown."""

from bertolt.report.walk.build import walk_through
from bertolt.report.walk.page import render_walk, write_walk
from bertolt.report.walk.record import Answer, AttentionMaps, Step, Token, Walk
from bertolt.report.walk.table import walk_table

__all__ = [
    "Answer",
    "AttentionMaps",
    "Step",
    "Token",
    "Walk",
    "render_walk",
    "walk_table",
    "walk_through",
    "write_walk",
]
