"""Debian's arm64 packages and source packages, without touching this system's own apt."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.devices import store

SUITE = "bookworm"
# Which Debian package each program is in; the reason a test is skipped names them.
PACKAGES = {
    "adb": "adb",
    "clang": "clang",
    "cpio": "cpio",
    "dpkg-source": "dpkg-dev",
    "ld.lld": "lld",
    "make": "make",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "qemu-aarch64": "qemu-user",
    "qemu-system-aarch64": "qemu-system-arm",
    "rsync": "rsync",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
}
# dpkg leaves these out; nothing at run time reads them.
_NO_DOCUMENTS = ("doc", "info", "locale", "man", "lintian", "bug")


class Unavailable(Exception):
    """A virtual device cannot be made here; the text says what is missing."""


def require(*programs: str) -> None:
    """Raise `Unavailable` with the line that installs what is missing."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES[name] for name in missing}))
        raise Unavailable(f"{', '.join(missing)} missing: sudo apt-get install {packages}")


def run(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    """A builder's step; its output is the error's text when it fails."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PATH": path, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-30:])
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}:\n{tail}")
    return done.stdout


def extract(target: Path, packages: Sequence[str]) -> None:
    """Unpack arm64 packages and all they depend on into `target`; nothing of them is run."""
    require("mmdebstrap")
    mode = "root" if os.geteuid() == 0 else "chrootless"
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _NO_DOCUMENTS]
    include = f"--include={','.join(packages)}"
    how = ("--architectures=arm64", "--variant=extract", f"--mode={mode}")
    run(["mmdebstrap", *how, *options, include, SUITE, target])


def source(target: Path, package: str, *, patched: bool) -> Path:
    """The unpacked source of a Debian package below `target`, through an apt state of its own.

    Without `patched` only upstream's own archive is fetched.
    """
    require("dpkg-source")
    options = _private_apt(target)
    run(["apt-get", *options, "-q", "update"])
    words = ["source", "-q", *([] if patched else ["--tar-only", "--download-only"]), package]
    run(["apt-get", *options, *words], cwd=target)
    if not patched:
        (archive,) = target.glob("*.orig.tar.*")
        run(["tar", "xf", archive], cwd=target)
    (tree,) = (path for path in target.glob(f"{package}-*") if path.is_dir())
    return tree


def _private_apt(target: Path) -> list[str]:
    for part in ("sources", "lists/partial", "cache/archives/partial"):
        (target / "apt" / part).mkdir(parents=True)
    (target / "apt" / "sources" / "source.sources").write_text(
        f"Types: deb-src\nURIs: {_mirror()}\nSuites: {SUITE}\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    apt = target / "apt"
    folders = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": apt / "sources",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "root",
    }
    return [word for key, value in folders.items() for word in ("-o", f"{key}={value}")]


def _mirror() -> str:
    """The mirror this system takes `SUITE` from."""
    listed = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"])
    for line in listed.splitlines():
        uri, _, release = line.partition(" ")
        if release == SUITE and "debian" in uri:
            return uri
    raise Unavailable(f"apt knows no Debian {SUITE} mirror to take arm64 packages from")


def kernel() -> Path:
    """A folder with `vmlinuz`, `busybox` (static) and the modules a virtual machine needs."""
    return store.made("kernel", ["linux-image-cloud-arm64", SUITE, *MODULES], _make_kernel)


# In the order they are loaded: each one's needs come before it.
MODULES = (
    "virtio/virtio_ring.ko",
    "virtio/virtio.ko",
    "virtio/virtio_pci_legacy_dev.ko",
    "virtio/virtio_pci_modern_dev.ko",
    "virtio/virtio_pci.ko",
    "block/virtio_blk.ko",
    "core/failover.ko",
    "net/net_failover.ko",
    "net/virtio_net.ko",
    "char/hw_random/virtio-rng.ko",
)


def _make_kernel(target: Path) -> None:
    tree = target / "tree"
    extract(tree, ["linux-image-cloud-arm64", "busybox-static"])
    (image,) = (tree / "boot").glob("vmlinuz-*")
    image.rename(target / "vmlinuz")
    (tree / "bin" / "busybox").rename(target / "busybox")
    (target / "modules").mkdir()
    for name in MODULES:
        found = list((tree / "lib" / "modules").glob(f"*/kernel/**/{name}"))
        if found:  # what a newer kernel has built in is no module
            found[0].rename(target / "modules" / Path(name).name)
    shutil.rmtree(tree)
