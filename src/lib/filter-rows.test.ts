import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { has } from "../../test/support/gantry.ts";
import { FilterRows } from "./filter-rows.ts";

const rows = (program: string, ...args: string[]): FilterRows =>
  new FilterRows({ program, args, from: "a-package", failure: "disk-error" });

const whole = async (parts: Promise<readonly Uint8Array[]>): Promise<Buffer> => Buffer.concat(await parts);

describe("rows of runs", () => {
  it("give each caller what the program makes of its own bytes, however many", async () => {
    const cat = rows("cat");
    const inputs = Array.from({ length: 20 }, (_, n) => randomBytes(1 + n * 20_000));
    // More than one shell has, at once and one after the other.
    const outputs = await Promise.all(inputs.map((input) => whole(cat.run(input))));
    expect(outputs.every((output, n) => output.equals(inputs[n] as Buffer))).toBe(true);
    for (const input of inputs) expect((await whole(cat.run(input))).equals(input)).toBe(true);
  });

  it("start one shell for several runs", async () => {
    const parent = rows("sh", "-c", "cat > /dev/null; echo $PPID");
    const shells = new Set<string>();
    for (let n = 0; n < 7; n += 1) shells.add(String(await whole(parent.run(Buffer.alloc(10)))));
    expect(shells.size).toBe(1);
    expect(await whole(parent.run(Buffer.alloc(10)))).not.toEqual(Buffer.from([...shells][0] ?? ""));
  });

  it("say why a run came to nothing, and go on with the next", async () => {
    const picky = rows(
      "sh",
      "-c",
      'read -r word; [ "$word" = good ] || { echo "bad: $word" >&2; exit 3; }; echo ok',
    );
    expect(String(await whole(picky.run(Buffer.from("good\n"))))).toBe("ok\n");
    await expect(picky.run(Buffer.from("evil\n"))).rejects.toMatchObject({
      code: "disk-error",
      message: "sh: bad: evil",
    });
    expect(String(await whole(picky.run(Buffer.from("good\n"))))).toBe("ok\n");
  });

  it("take what was cut short for a failure", async () => {
    const killed = rows("sh", "-c", "echo half; kill -9 $$");
    await expect(killed.run(Buffer.from("x"))).rejects.toMatchObject({ code: "disk-error" });
  });

  it("name the package of a program that is not there", async () => {
    await expect(rows("no-such-program").run(Buffer.from("x"))).rejects.toMatchObject({
      code: "usage",
      hint: expect.stringContaining("a-package"),
    });
  });

  it.skipIf(!has("ps"))(
    "are in a group of their own, where keys that interrupt us do not reach (needs ps)",
    async () => {
      const group = rows("sh", "-c", "cat > /dev/null; ps -o pgid= -p $$");
      const own = String(
        await whole(rows("sh", "-c", `ps -o pgid= -p ${process.pid}`).run(Buffer.from("x"))),
      );
      expect(String(await whole(group.run(Buffer.from("x")))).trim()).not.toBe(own.trim());
    },
  );
});
