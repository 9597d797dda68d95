"""The virtual board as its firmware starts it: OVMF, boot entries, two slots. `virtual.py` starts the kernel itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from virtual import VirtualBoard

MIB = 1 << 20


class FirmwareBoard(VirtualBoard):
    """A fresh card of `size_mib`, the image's own size or more. 9p tag "bundles": the folder with the image."""

    def __init__(self, image: Path, folder: Path, size_mib: int | None = None) -> None:
        super().__init__(image, folder)
        self.variables = folder / "variables.fd"
        shutil.copy(self._emulator / "usr/share/OVMF/OVMF_VARS_4M.fd", self.variables)
        if size_mib is not None:
            self._tool("qemu-img", "resize", "-q", self.disk, f"{size_mib}M")
        self.extra = [
            *("-fsdev", f"local,id=bundles,path={image},security_model=none,readonly=on"),
            *("-device", "virtio-9p-pci,fsdev=bundles,mount_tag=bundles"),
        ]

    def forget_boot_entries(self) -> None:
        """The firmware's memory is lost, as with an empty battery or another machine."""
        shutil.copy(self._emulator / "usr/share/OVMF/OVMF_VARS_4M.fd", self.variables)

    def overwrite(self, at_mib: int, size_mib: int) -> None:
        """Zeros over a part of the card, which must be off."""
        self._tool("qemu-io", "-c", f"write -z {at_mib}M {size_mib}M", self.disk)

    def _command(self) -> list[str]:
        command = super()._command()
        for option in ("-kernel", "-initrd", "-append"):
            at = command.index(option)
            del command[at : at + 2]
        code = self._emulator / "usr/share/OVMF/OVMF_CODE_4M.fd"
        return [
            *command,
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"),
            *("-drive", f"if=pflash,unit=1,format=raw,file={self.variables}"),
        ]
