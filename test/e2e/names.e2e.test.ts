import { describe, expect, it } from "vitest";
import { datasetOf } from "../../src/sandbox/tiny-dataset.ts";
import { dicomSeries } from "../support/dataset.ts";
import { freshDir, listFiles, type Stage, startStage } from "../support/gantry.ts";

const PATIENTS = [
  "a/b",
  "50%",
  "..",
  ".",
  "CON",
  "ends.",
  "sp ace ",
  "Ünï\u0301çode",
  "x\u202Ey",
  "a:b*c?",
  "~/home",
  "p".repeat(300),
  "UPPER",
  "upper",
  "caf\u00e9",
  "cafe\u0301",
];

describe("awkward names", () => {
  it("round trip through listings, addresses and paths; nobody overwrites another", async () => {
    const all = PATIENTS.map((patientId, index) =>
      dicomSeries(`1.2.840.3.${index + 1}`, {
        patientId,
        collection: index % 2 ? "Odd & Co/ltd" : "..",
        count: 2,
        studyInstanceUid: `1.2.840.4.${index}`,
      }),
    );
    const stage: Stage = await startStage({ data: datasetOf(all) });
    const dir = await freshDir();
    const result = await stage.run(["get", "tcia:", "-o", dir]);
    expect(result.code, result.stderr).toBe(0);
    const files = (await listFiles(dir)).filter((path) => path.endsWith(".dcm"));
    expect(files).toHaveLength(PATIENTS.length * 2);
    expect(new Set(files.map((path) => path.normalize("NFC").toLowerCase())).size).toBe(files.length);
    for (const path of files) {
      for (const segment of path.split("/")) {
        expect(Buffer.byteLength(segment)).toBeLessThanOrEqual(255);
        expect(segment).not.toMatch(/[\u0000-\u001f<>:"\\|?*\u202e]|[. ]$/u);
      }
    }
    expect((await stage.run(["verify", dir, "--strict"])).code).toBe(0);
    // Every address of a listing can be pasted back.
    const listed = JSON.parse((await stage.run(["ls", "tcia:", "--format", "json"])).stdout) as {
      address: string;
    }[];
    expect(listed).toHaveLength(2);
    let patients = 0;
    for (const { address } of listed) {
      const rows = JSON.parse((await stage.run(["ls", address, "--format", "json"])).stdout) as {
        address: string;
      }[];
      patients += rows.length;
      const [first] = rows;
      expect((await stage.run(["get", first?.address ?? "", "-o", dir, "--dry-run"])).code).toBe(0);
    }
    expect(patients).toBe(PATIENTS.length);
  });
});
