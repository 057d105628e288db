import { describe, expect, it } from "vitest";
import { refuseSpace, type Space } from "./forecast.ts";

const GB = 1e9;
const space = (more: Partial<Space>): Space => ({
  fetch: { items: 10, files: 1000, bytes: 5 * GB },
  largestBytes: GB,
  free: { bytes: 100 * GB, inodes: 1_000_000 },
  scratch: null,
  sink: "folder",
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
  ])("%s", (_, more, code) => {
    expect(refuseSpace(space(more))?.code ?? null).toBe(code);
  });

  it("names the option that would fit", () => {
    expect(refuseSpace(space({ free: { bytes: null, inodes: 10 } }))?.hint).toContain("--pack tar.zst");
  });
});
