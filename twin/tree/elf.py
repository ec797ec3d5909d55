"""A shared object of a few hundred bytes: enough for `ldconfig` to take it for what its name says. It has no code."""

from __future__ import annotations

import struct

_BASE_HEADERS = 64 + 2 * 56
_DT_NULL, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 0, 5, 6, 10, 11, 14
_PT_LOAD, _PT_DYNAMIC = 1, 2
_ET_DYN, _EM_X86_64, _READ = 3, 62, 4


def shared_object(soname: str) -> bytes:
    """Return an ELF file for x86-64 with this DT_SONAME."""
    strings = b"\0" + soname.encode() + b"\0"
    strings += bytes(-len(strings) % 8)
    strtab = _BASE_HEADERS
    symtab = strtab + len(strings)
    dynamic = symtab + 24
    entries = {_DT_SONAME: 1, _DT_STRTAB: strtab, _DT_SYMTAB: symtab, _DT_STRSZ: len(strings), _DT_SYMENT: 24}
    table = b"".join(struct.pack("<QQ", *entry) for entry in (*entries.items(), (_DT_NULL, 0)))
    size = dynamic + len(table)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", _ET_DYN, _EM_X86_64, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", _PT_LOAD, _READ, 0, 0, 0, size, size, 0x1000)
    dyn = struct.pack("<IIQQQQQQ", _PT_DYNAMIC, _READ, dynamic, dynamic, dynamic, len(table), len(table), 8)
    return header + load + dyn + strings + bytes(24) + table
