import { describe, expect, it } from "vitest";
import { buildPhantomDataset } from "../../sandbox/data/phantom.ts";
import { drawSlice, readSlice, type Slice } from "./slice.ts";

async function phantom(): Promise<Slice> {
  for (const series of buildPhantomDataset({ seed: 1 }).series()) {
    const images = series.instances();
    if (series.modality !== "CT" || images.length < 20) continue;
    const chunks: Uint8Array[] = [];
    for await (const chunk of images[images.length >> 1]!.read()) chunks.push(chunk);
    const slice = await readSlice(Buffer.concat(chunks));
    if (slice !== null) return slice;
  }
  throw new Error("no phantom can be drawn");
}

describe("a slice on the screen", () => {
  it("shows a head: dark outside, bright skull, something inside", async () => {
    const slice = await phantom();
    expect([slice.modality, slice.rows, slice.columns]).toEqual(["CT", 64, 64]);
    const lines = drawSlice(slice, 48, false);
    expect(lines).toHaveLength(24);
    expect(lines[12]!.startsWith("      ")).toBe(true);
    expect(lines[12]).toContain("@");
    expect(new Set(lines[12]).size).toBeGreaterThan(3);
  });

  it("uses greys of a terminal with colour", async () => {
    const lines = drawSlice(await phantom(), 20, true);
    expect(lines).toHaveLength(10);
    for (const line of lines) expect(line).toMatch(/^(\u001b\[38;5;\d{3};48;5;\d{3}m▀){20}\u001b\[0m$/);
  });

  it("leaves alone what is no such image", async () => {
    expect(await readSlice(Buffer.from("not DICOM"))).toBeNull();
  });
});
