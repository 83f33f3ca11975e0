"""What real devices said, from public reports; each text names its source.

Blocks of cores that repeat are written once and multiplied; nothing else is changed.
"""

from __future__ import annotations

from plm_edge.device import snapshot


def _cores(block: str, numbers: range) -> str:
    return "\n".join(f"processor\t: {number}\n{block}" for number in numbers)


_A76 = """\
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc \
dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""
# github.com/hrw/arm-socs-table/issues/96 (Raspberry Pi 5 Model B Rev 1.0, kernel 6.1.47)
PI_5_CPUINFO = _cores(_A76, range(4)) + (
    "\nHardware\t: BCM2835\nRevision\t: d04170\nSerial\t\t: 48343bbbe3ae743b\n"
    "Model\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
)

_A72 = """\
BogoMIPS        : 108.00
Features        : fp asimd evtstrm crc32 cpuid
CPU implementer : 0x41
CPU architecture: 8
CPU variant     : 0x0
CPU part        : 0xd08
CPU revision    : 3
"""
# github.com/fastfetch-cli/fastfetch/issues/1529 (Raspberry Pi 4 Model B Rev 1.5)
PI_4_CPUINFO = _cores(_A72, range(4)) + (
    "\nRevision        : d03115\nSerial          : 100000000fe69593\n"
    "Model           : Raspberry Pi 4 Model B Rev 1.5\n"
)

_A72_32_BIT = """\
model name\t: ARMv7 Processor rev 3 (v7l)
BogoMIPS\t: 108.00
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32
CPU implementer\t: 0x41
CPU architecture: 7
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
# github.com/raspberrypi/linux/issues/3201 (Pi 4 with a 32-bit Raspbian)
PI_4_32_BIT_CPUINFO = _cores(_A72_32_BIT, range(4)) + "\nHardware\t: BCM2835\n"

_SDM845 = """\
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp
CPU implementer\t: 0x51
CPU architecture: 8
CPU variant\t: 0x7
CPU part\t: 0x803
CPU revision\t: 12
"""
# github.com/hrw/arm-socs-table/issues/11 (Xiaomi Mi 8, Snapdragon 845, little cores; no dotprod)
SNAPDRAGON_845_CPUINFO = "Processor\t: AArch64 Processor rev 12 (aarch64)\n" + _cores(
    _SDM845, range(4)
)

_SD8G3 = """\
BogoMIPS        : 38.40
Features        : fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm \
jscvt fcma lrcpc dcpop sha3 sm3 sm4 asimddp sha512 asimdfhm dit uscat ilrcpc flagm ssbs sb paca \
pacg dcpodp flagm2 frint i8mm bf16 dgh bti ecv afp
CPU implementer : 0x41
CPU architecture: 8
CPU variant     : 0x0
CPU part        : 0xd80
CPU revision    : 1
"""
# github.com/hrw/arm-socs-table/issues/98 (Xiaomi 14, Snapdragon 8 Gen 3; its first, little cores)
SNAPDRAGON_8_GEN_3_CPUINFO = _cores(_SD8G3, range(2))

# gh0st.tistory.com/6 (a Samsung phone on USB)
BATTERY = """\
Current Battery Service state:
  mBootCompleted: true
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 0
  Max charging voltage: 0
  Charge counter: 0
  status: 2
  health: 2
  present: true
  level: 84
  scale: 100
  voltage: 4063
  temperature: 326
  technology: Li-ion
  current now: 321
"""
# github.com/bryanroscoe/shield_optimizer/issues/6 (Nvidia Shield TV Pro 2019); the report says that
# the values under "Current temperatures from HAL" are the true ones, 66.5 for its processor
THERMALSERVICE = """\
IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 1
\tkilled: false
\tbroadcasts count: -1
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=36.0, mType=1, mName=GPU, mStatus=0}
\tTemperature{mValue=37.0, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=37.0, mType=0, mName=CPU1, mStatus=0}
HAL Ready: true
HAL connection:
\tThermalHAL 2.0 connected: yes
Current temperatures from HAL:
\tTemperature{mValue=66.5, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=62.0, mType=1, mName=GPU, mStatus=0}
"""
# github.com/raspberrypi/firmware/issues/615, github.com/raspberrypi/linux/issues/2367
THROTTLED_BEFORE = "throttled=0x50000"
THROTTLED_NOW = "throttled=0x50005"
SOFT_LIMIT_NOW = "throttled=0x80008"
# github.com/raspberrypi/firmware/issues/1865 gives this form of a firmware's day
OLD_FIRMWARE = "2024/01/05 15:57:40"

MEMINFO_4_GB = """\
MemTotal:        4146704 kB
MemFree:         2731088 kB
MemAvailable:    3571296 kB
Buffers:           47728 kB
Cached:           871440 kB
SwapTotal:        524272 kB
SwapFree:         524272 kB
"""
DF = """\
Filesystem     1024-blocks    Used Available Capacity Mounted on
/dev/mmcblk0p2    60805992 6291456  51404072      11% /
"""
CPUS_PI_5 = "\n".join(f"cpu{n} 0 2400000 2400000 ondemand" for n in range(4))
# Snapdragon 8 Gen 3: two little cores, five big ones and the biggest, by their highest clocks.
CPUS_8_GEN_3 = "\n".join(
    f"cpu{n} {capacity} {clock} {clock} walt"
    for n, (capacity, clock) in enumerate(
        [(326, 2265600)] * 2 + [(867, 3148800)] * 3 + [(830, 2956800)] * 2 + [(1024, 3302400)]
    )
)

_NOTHING = dict.fromkeys({**snapshot.PROBE, **snapshot.DOCTOR}, "")


def pi_5(**others: str) -> dict[str, str]:
    """A Raspberry Pi 5 with nothing wrong but what `others` say."""
    return {
        **_NOTHING,
        "architecture": "aarch64",
        "system": "Debian GNU/Linux 12 (bookworm)",
        "model": "Raspberry Pi 5 Model B Rev 1.0",
        "cpuinfo": PI_5_CPUINFO,
        "meminfo": MEMINFO_4_GB,
        "page_size": "16384",
        "cpus": CPUS_PI_5,
        "disk": DF,
        "locked": "506152",
        "kernel": "6.6.31+rpt-rpi-2712",
        "bits": "64",
        "load": "0.08 0.03 0.01 1/174 1043",
        "swaps": "Filename\tType\tSize\tUsed\tPriority\n",
        "mounts": "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\ntmpfs /tmp tmpfs rw,nosuid,nodev 0 0",
        "thermal": "47850 cpu-thermal",
        "throttled": "throttled=0x0",
        **others,
    }


def pi_4(**others: str) -> dict[str, str]:
    """A Raspberry Pi 4 of 64 bits."""
    own = {"model": "Raspberry Pi 4 Model B Rev 1.5", "cpuinfo": PI_4_CPUINFO, "page_size": "4096"}
    return pi_5(**{**own, "kernel": "6.6.31+rpt-rpi-v8", **others})


def phone(**others: str) -> dict[str, str]:
    """A phone with a Snapdragon 8 Gen 3."""
    return {
        **_NOTHING,
        "architecture": "aarch64",
        "system": "Android 14",
        "model": "23127PN0CC",
        "cpuinfo": SNAPDRAGON_8_GEN_3_CPUINFO,
        "meminfo": MEMINFO_4_GB,
        "page_size": "4096",
        "cpus": CPUS_8_GEN_3,
        "disk": DF.replace("/dev/mmcblk0p2", "/dev/block/dm-50"),
        "locked": "64",
        "battery": BATTERY,
        "thermalservice": THERMALSERVICE,
        **others,
    }
