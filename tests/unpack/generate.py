"""Writes random archives SEED.tar, and SEED.txt with what Python's tarfile reads in them: generate.py SEEDS DIRECTORY

One line for each path that a member names: path, type, mode, time and the target of a link or the digest of a file, apart
by NUL. Or the word "refused". Archives of even seeds are as they were written, the others have one thing changed.
"""

import hashlib, io, posixpath, random, sys, tarfile

KINDS = {tarfile.REGTYPE: "f", tarfile.AREGTYPE: "f", tarfile.CONTTYPE: "f", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p"}
NAMES = ["a", "b", "d", "d/x", "d/y", "d/e", "d/e/z", "./b", "d//x", "d/./y", "n" * 90, "d/" + "m" * 120, "ünï", "sp ace", "new\nline"]


def generate(random):
    out = io.BytesIO()
    form = random.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for _ in range(random.randrange(1, 12)):
            member = tarfile.TarInfo(random.choice(NAMES))
            member.type = random.choices([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE], [50, 20, 10, 10, 5, 5])[0]
            member.mode = random.choice([0o644, 0o755, 0o600, 0o4755, 0, 0o7777])
            member.mtime = random.choice([0, 1, 1_000_000_000, 2**31, 2**33 - 1])
            if form == tarfile.PAX_FORMAT and random.random() < 0.3:
                member.mtime += 0.5
                member.pax_headers = {"comment": "x" * random.randrange(600)}
            data = random.randbytes(random.choice([0, 1, 511, 512, 513, 3000]))
            if member.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member.linkname = random.choice(NAMES)  # GNU tar puts off links that lead up or away
            elif member.isreg():
                member.size = len(data)
            try:
                archive.addfile(member, io.BytesIO(data))
            except ValueError:
                pass  # too long for ustar
    return out.getvalue()


def spoil(random, archive):
    """One change that a writer in bad faith, or a bad disk, makes."""
    block = 512 * random.randrange(len(archive) // 512)
    kind = random.randrange(8)
    if kind == 0:
        at = block + random.randrange(512)
        return archive[:at] + bytes([random.randrange(256)]) + archive[at + 1 :]
    if kind == 1:
        return archive[: random.randrange(len(archive))]
    if kind == 2:
        return archive[:block] + bytes(512 * random.randrange(1, 4)) + archive[block:]
    if kind == 3:
        return archive + generate(random)
    if kind == 4:
        return archive.rstrip(b"\0").ljust(-(-len(archive.rstrip(b"\0")) // 512) * 512, b"\0")
    header = bytearray(archive[block : block + 512])
    if kind == 5:
        header[124:136] = random.choice([b"\x80" + bytes(10) + b"\3", b"\xff" * 12, b"         3 \0", b"00000000003 ", b"3" + bytes(11), b"0x000000003\0"])
    elif kind == 6:
        header[156] = random.choice(b"\x0001234567LKxgSDVX")
    else:
        prefix = random.choice([b"/", b"../", b"d/../", b".//"])
        header[0:100] = (prefix + bytes(header[0:100]))[:100]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return archive[:block] + bytes(header) + archive[block + 512 :]


def clean(name):
    return posixpath.normpath("/" + name.lstrip("/"))[1:] or "."


def read(archive):
    nodes = {}
    with tarfile.open(fileobj=io.BytesIO(archive), errorlevel=2) as members:
        for member in members:
            path = clean(member.name)
            if member.islnk():
                nodes[path] = nodes[clean(member.linkname)]
                continue
            tail = ""
            if member.issym():
                tail = member.linkname
            elif member.isreg():
                content = members.extractfile(member).read()
                if len(content) != member.size:
                    raise tarfile.ReadError("cut")
                tail = hashlib.sha256(content).hexdigest()
            nodes[path] = (KINDS[member.type], member.mode & 0o7777, member.mtime, tail)
    return nodes


def main():
    for seed in range(int(sys.argv[1])):
        chance = random.Random(seed)
        archive = generate(chance)
        if seed % 2:
            archive = spoil(chance, archive)
        path = f"{sys.argv[2]}/{seed}"
        open(f"{path}.tar", "wb").write(archive)
        with open(f"{path}.txt", "w", encoding="utf-8", errors="surrogateescape", newline="") as out:
            try:
                for path, (kind, mode, time, tail) in read(archive).items():
                    out.write(f"{path}\0{kind}\0{mode:o}\0{int(time // 1)}\0{tail}\0\n")
            except (tarfile.TarError, KeyError, ValueError, OverflowError) as failure:
                out.write(f"refused: {failure!r}\n")


main()
