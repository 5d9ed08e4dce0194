"""mkimg.py NAME:TAG OUT.tar BINARY: writes a container image of one static binary, without docker.

The archive has the format of `docker save`. The binary is the entrypoint and runs as user 65532. The image also has the CA
certificates of this machine and a passwd file. The bytes depend only on the inputs.
"""

import hashlib
import io
import json
import os
import platform
import struct
import sys
import tarfile

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def needs_loader(elf):
    """Returns whether this 64-bit ELF file names a dynamic loader (a program header of type 3)."""
    if elf[:5] != b"\x7fELF\x02":
        sys.exit("error: not a 64-bit Linux binary, so the image could not run it; build it with hack/static")
    (start,), (size, count) = struct.unpack_from("<Q", elf, 32), struct.unpack_from("<HH", elf, 54)
    return any(struct.unpack_from("<I", elf, start + i * size)[0] == 3 for i in range(count))


def add(tar, name, data, mode=0o644):
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def main(name, out, binary):
    with open(binary, "rb") as f:
        elf = f.read()
    if needs_loader(elf):
        sys.exit(f"error: {binary} is linked dynamically and cannot start in an image without libraries; "
                 "build it with hack/static")
    layer, base = io.BytesIO(), os.path.basename(binary)
    with tarfile.open(fileobj=layer, mode="w") as tar:
        add(tar, base, elf, 0o755)
        add(tar, "etc/passwd", b"root:x:0:0::/:/\nnonroot:x:65532:65532::/:/\n")
        if os.path.exists(CERTIFICATES):
            with open(CERTIFICATES, "rb") as f:
                add(tar, CERTIFICATES[1:], f.read())
    layer = layer.getvalue()
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": ["/" + base], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [digest + "/layer.tar"]}]
    with tarfile.open(out, "w") as tar:
        add(tar, config_name, config)
        add(tar, digest + "/layer.tar", layer)
        add(tar, "manifest.json", json.dumps(manifest).encode())


main(*sys.argv[1:])
