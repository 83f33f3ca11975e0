"""What can be wrong with any device: clock, memory, pages, storage, load; pure, from a snapshot."""

from __future__ import annotations

import re
from collections.abc import Iterator

from plm_edge.device.finding import Finding, ok
from plm_edge.device.probe import Facts
from plm_edge.device.snapshot import Snapshot

# Above these, work waits for memory (share of the last minute, in percent).
PRESSURE_WARNING_PERCENT = 5.0
LITTLE_DISK_BYTES = 2_000_000_000
LITTLE_MEMORY_BYTES = 1_100_000_000
_BUSY_SHARE = 0.5
# The engine's programs are linked for pages of up to so much.
LARGEST_PAGE_BYTES = 65536


def governor(answers: Snapshot) -> Iterator[Finding]:
    """Clocks that start low or are capped make the first tokens of each answer slow."""
    rows = [line.split() for line in answers["cpus"].splitlines()]
    cores = [row for row in rows if len(row) == 5]
    names = sorted({row[4] for row in cores} - {"-"})
    if not names:
        yield Finding("governor", "note", "the clock's governor is not told")
        return
    if names == ["performance"]:
        yield ok("governor", "performance")
    else:
        yield Finding(
            "governor",
            "warning",
            f"{', '.join(names)}: the clock has to ramp up first",
            "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )
    capped = [row for row in cores if row[3] != "0" and int(row[3]) < int(row[2])]
    if capped:
        name, _, highest, limit, _ = capped[0]
        yield Finding(
            "clock",
            "warning",
            f"{name} is held at {int(limit) / 1e6:.1f} of {int(highest) / 1e6:.1f} GHz",
            "remove the limit on scaling_max_freq, or cool the device",
        )


def swap(answers: Snapshot, facts: Facts) -> Iterator[Finding]:
    """Swap on a card is slow and wears it out; compressed swap in memory is neither."""
    rows = [line.split() for line in answers["swaps"].splitlines()[1:]]
    rows = [row for row in rows if len(row) >= 4]
    on_disk = [row[0] for row in rows if not row[0].startswith("/dev/zram")]
    used_bytes = sum(int(row[3]) * 1024 for row in rows if row[3].isdigit())
    if on_disk:
        yield Finding(
            "swap",
            "warning",
            f"{', '.join(on_disk)}: a model that spills there crawls, and a card wears out",
            "sudo systemctl disable --now dphys-swapfile; sudo apt-get install zram-tools",
        )
    elif rows:
        yield ok("swap", "compressed in memory (zram)")
    elif facts.memory_bytes < LITTLE_MEMORY_BYTES:
        # A phone's swap is its maker's choice.
        fix = None if facts.system.startswith("Android") else "sudo apt-get install zram-tools"
        yield Finding("swap", "warning", "none, and little memory", fix)
    else:
        yield ok("swap", "none")
    if used_bytes > facts.memory_bytes // 10:
        yield Finding(
            "swap in use",
            "warning",
            f"{used_bytes / 1e6:.0f} MB are swapped out: memory is short already",
            "end what is not needed, or reboot",
        )


def pressure(answers: Snapshot, facts: Facts) -> Iterator[Finding]:
    """PSI tells how long work waited for memory; many Pi kernels have it switched off."""
    found = re.search(r"^some .*avg60=([\d.]+)", answers["pressure"], re.MULTILINE)
    if found is None:
        is_pi = "raspberry" in facts.model.lower()
        fix = "append psi=1 to the line in /boot/firmware/cmdline.txt and reboot" if is_pi else None
        yield Finding("memory pressure", "note", "the kernel does not tell (PSI is off)", fix)
    elif float(found[1]) > PRESSURE_WARNING_PERCENT:
        yield Finding(
            "memory pressure",
            "warning",
            f"work waited for memory {found[1]} % of the last minute",
            "end what is not needed; plm-edge chat --ctx auto picks what fits",
        )
    else:
        yield ok("memory pressure", f"{found[1]} % of the last minute")


def memory(facts: Facts) -> Iterator[Finding]:
    """How much there is, and how much of it is to be had."""
    text = f"{facts.available_bytes / 1e9:.1f} of {facts.memory_bytes / 1e9:.1f} GB are available"
    if facts.available_bytes < facts.memory_bytes // 2:
        yield Finding("memory", "warning", text, "end what is not needed, such as a desktop")
    else:
        yield ok("memory", text)


def page_size(facts: Facts) -> Iterator[Finding]:
    """Programs must be aligned to the kernel's pages; ours are, up to 64 KB."""
    size = facts.page_size_bytes
    if size == 0:
        yield Finding("page size", "note", "not told")
    elif size > LARGEST_PAGE_BYTES:
        yield Finding("page size", "problem", f"{size} bytes: our programs cannot be loaded")
    else:
        yield ok("page size", f"{size // 1024} KB; our programs are aligned for up to 64 KB")


def disk(facts: Facts, folder: str) -> Iterator[Finding]:
    """Room for a model and its next version."""
    text = f"{facts.free_disk_bytes / 1e9:.1f} GB free for {folder}"
    if facts.free_disk_bytes < LITTLE_DISK_BYTES:
        yield Finding("disk", "warning", text, f"make room; old models are in {folder}/models")
    else:
        yield ok("disk", text)


def mount(answers: Snapshot, folder: str) -> Iterator[Finding]:
    """Nothing can be executed on a file system mounted noexec, such as a phone's sdcard."""
    best: tuple[str, list[str]] = ("", [])
    for line in answers["mounts"].splitlines():
        words = line.split()
        if len(words) >= 4:
            point = words[1].replace("\\040", " ")
            inside = folder == point or folder.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, words[3].split(","))
    point, options = best
    if "noexec" in options:
        yield Finding(
            "mount",
            "problem",
            f"{point} is mounted noexec: no program can be run in {folder}",
            "set transport.folder to one elsewhere; on Android: /data/local/tmp/plm-edge",
        )
    elif "ro" in options:
        yield Finding(
            "mount", "problem", f"{point} is read-only", f"sudo mount -o remount,rw {point}"
        )
    elif point:
        yield ok("mount", f"{point} allows programs")


def load(answers: Snapshot, facts: Facts) -> Iterator[Finding]:
    """Whatever else runs takes cores and bandwidth."""
    words = answers["load"].split()
    if not words:
        return
    busy = float(words[0])
    if busy > _BUSY_SHARE * max(1, len(facts.cores)):
        yield Finding(
            "load", "warning", f"{busy:g} tasks run on {len(facts.cores)} cores", "top shows which"
        )
    else:
        yield ok("load", f"{busy:g} on {len(facts.cores)} cores")


def bits(answers: Snapshot) -> Iterator[Finding]:
    """A 32-bit system on a 64-bit kernel runs our static programs, and nothing else of 64 bits."""
    if answers["bits"] == "32":
        yield Finding(
            "system",
            "note",
            "a 32-bit system on a 64-bit kernel: our programs run, being static",
        )
