import { describe, expect, it } from "vitest";
import { measuredRate, refuseSpace, type Space } from "./forecast.ts";

const GB = 1e9;
const space = (more: Partial<Space>): Space => ({
  fetch: { items: 10, files: 1000, bytes: 5 * GB },
  largestBytes: GB,
  free: { bytes: 100 * GB, inodes: 1_000_000 },
  quota: { bytes: null, inodes: null },
  scratch: null,
  sink: "folder",
  shardBytes: null,
  dir: null,
  ...more,
});

describe("refuseSpace", () => {
  it.each<[string, Partial<Space>, string | null]>([
    ["enough of all", {}, null],
    ["too few bytes", { free: { bytes: 4 * GB, inodes: null } }, "disk-full"],
    ["too few bytes, plain tar", { free: { bytes: 4 * GB, inodes: null }, sink: "tar" }, "disk-full"],
    ["compressed it may fit", { free: { bytes: 4 * GB, inodes: null }, sink: "tar.zst" }, null],
    ["compressed it can't fit", { free: { bytes: 0.4 * GB, inodes: null }, sink: "tar.xz" }, "disk-full"],
    ["too few inodes", { free: { bytes: null, inodes: 999 } }, "disk-inodes"],
    ["packed, inodes do not matter", { free: { bytes: null, inodes: 999 }, sink: "tar.zst" }, null],
    ["a disk that tells nothing", { free: { bytes: null, inodes: null } }, null],
    [
      "sizes that nobody announced",
      { fetch: { items: 10, files: 0, bytes: 0 }, free: { bytes: 0, inodes: 0 } },
      null,
    ],
    ["a scratch disk for the largest item", { scratch: GB }, null],
    ["a smaller one", { scratch: GB - 1 }, "disk-full"],
    ["a quota of bytes", { quota: { bytes: 4 * GB, inodes: null } }, "disk-quota"],
    ["a quota of inodes", { quota: { bytes: null, inodes: 999 } }, "disk-quota"],
    [
      "a quota that leaves more than the disk",
      { free: { bytes: GB, inodes: null }, quota: { bytes: 2 * GB, inodes: null } },
      "disk-full",
    ],
    ["a quota of inodes, packed", { quota: { bytes: null, inodes: 2 }, sink: "tar.zst" }, null],
    [
      "a quota of inodes, packed into too many",
      { quota: { bytes: null, inodes: 9 }, sink: "tar.zst", shardBytes: GB },
      "disk-quota",
    ],
  ])("%s", (_, more, code) => {
    expect(refuseSpace(space(more))?.code ?? null).toBe(code);
  });

  it.each<[string, Partial<Space>, RegExp]>([
    ["a new folder packs", { free: { bytes: null, inodes: 10 } }, /^pack it: --pack tar\.zst/u],
    [
      "a filled one is packed first",
      { free: { bytes: null, inodes: 10 }, dir: "/d" },
      /^pack it: gantry pack \/d /u,
    ],
    ["bytes that may fit compressed", { free: { bytes: GB, inodes: null } }, /^pack it: --pack tar\.zst/u],
    ["bytes that can't", { free: { bytes: 0.1 * GB, inodes: null } }, /^free some space/u],
    [
      "too many archive files",
      { free: { bytes: null, inodes: 4 }, sink: "tar", shardBytes: GB },
      /--shard-size/u,
    ],
    ["no inode at all", { free: { bytes: null, inodes: 1 } }, /^free some inodes/u],
  ])("names what would fit: %s", (_, more, hint) => {
    expect(refuseSpace(space(more))?.hint).toMatch(hint);
  });
});

describe("measuredRate", () => {
  it("is that of the newest runs together, and of none that fetched nothing", () => {
    expect(measuredRate([])).toBeNull();
    expect(measuredRate([{ bytes: 0, seconds: 3 }])).toBeNull();
    const old = { bytes: 1, seconds: 1000 };
    const runs = [
      old,
      ...[1, 2, 3, 4].map((seconds) => ({ bytes: 100, seconds })),
      { bytes: 600, seconds: 10 },
    ];
    expect(measuredRate(runs)).toBe(1000 / 20);
  });
});
