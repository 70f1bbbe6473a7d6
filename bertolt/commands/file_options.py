"""What a user sets of how files are read, the same for every command. Only light modules."""

# Annotations are values here: what builds a command reads them where the options are inherited.

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bertolt.base.options import at_least, seen_in

if TYPE_CHECKING:
    from bertolt.data.table_file import Layout

_ROWS = seen_in("training rows")
_HOW = Parameter(group="Reading files")  # a part of the help, behind the command's own options


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How a file is read; the text below each field is the help of all commands that read one."""

    encoding: Annotated[str, _HOW] = field(default="utf-8", metadata=_ROWS)
    """Encoding of the texts; auto finds that of each file by its bytes, and says it."""
    sep: Annotated[str | None, _HOW] = field(default=None, metadata=_ROWS)
    """What parts the cells of a row, as ";", "|" or tab. Default: found in the first line."""
    no_header: Annotated[bool, _HOW] = field(default=False, metadata=_ROWS)
    """The first line is a row: columns are called by their numbers, from 1 on."""
    skip_rows: Annotated[int, _HOW] = field(default=0, metadata=at_least(0) | _ROWS)
    """Rows above the column names, such as a title, which are left out."""
    sheet: Annotated[str | None, _HOW] = field(default=None, metadata=_ROWS)
    """Sheet of an Excel file. Default: the first."""

    @property
    def layout(self) -> "Layout":
        """Of a table of cells.

        Raises:
            UsageError: the separator cannot part cells.
        """
        from bertolt.data.delimited import layout_of

        return layout_of(self.sep, self.no_header, self.sheet, self.skip_rows)

    def columns(self) -> dict[str, Any]:
        """What `Columns` takes of it.

        Raises:
            UsageError: as `layout`.
        """
        return {"encoding": self.encoding, "layout": self.layout}

    def plain(self) -> dict[str, Any]:
        """These options alone, as plain values by name."""
        return {each.name: getattr(self, each.name) for each in fields(FileOptions)}

    def named(self) -> list[str]:
        """Those that are otherwise than by default."""
        plain = self.plain()
        return [each.name for each in fields(FileOptions) if plain[each.name] != each.default]
