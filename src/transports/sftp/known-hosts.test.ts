import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readKnownHosts } from "./known-hosts.ts";

/** A key as it is on the wire: its type, then what makes it this one. */
function key(type: string, own: string): Buffer {
  const part = (text: string): Buffer => {
    const bytes = Buffer.alloc(4 + text.length, text);
    bytes.writeUInt32BE(text.length);
    bytes.write(text, 4);
    return bytes;
  };
  return Buffer.concat([part(type), part(own)]);
}
const ED = "ssh-ed25519";
const A = key(ED, "a".repeat(32));
const B = key(ED, "b".repeat(32));

let dir: string;
let own: string;
let other: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gantry-known-"));
  own = join(dir, "config", "known_hosts");
  other = join(dir, "known_hosts");
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const read = (host: string, port = 22) => readKnownHosts(host, port, { own, others: [other] });
const line = (hosts: string, of: Buffer, marker = ""): string =>
  `${marker}${hosts} ${ED} ${of.toString("base64")} comment\n`;

describe("known hosts", () => {
  it("remembers a server once, for its owner alone, as OpenSSH reads it", async () => {
    const first = await read("Host.example", 33001);
    expect(first.types).toEqual([]);
    expect(first.check(A)).toBe("new");
    await first.remember(A);
    expect(statSync(own).mode & 0o777).toBe(0o600);
    expect(readFileSync(own, "utf8")).toBe(`[host.example]:33001 ${ED} ${A.toString("base64")}\n`);
    const again = await read("host.example", 33001);
    expect(again).toMatchObject({ types: [ED] });
    expect(again.check(A)).toBe("known");
    expect(() => again.check(B)).toThrow(
      expect.objectContaining({
        code: "access-denied",
        hint: expect.stringContaining("ssh-keygen -R '[host.example]:33001'"),
      }),
    );
    // Another port is another server.
    expect((await read("host.example")).check(B)).toBe("new");
  });

  it.each([
    ["a plain name", "host.example", true],
    ["one of several, in capitals", "other,HOST.example,10.0.0.1", true],
    ["a pattern", "*.example", true],
    ["a pattern with a mark", "h?st.example", true],
    ["a pattern that leaves it out", "*.example,!host.example", false],
    ["a longer name", "xhost.example", false],
    ["a dot is a dot", "hostxexample", false],
  ])("knows it by %s", async (_, hosts, known) => {
    writeFileSync(other, `# comment\n\n${line(hosts, A)}`);
    expect((await read("host.example")).check(A)).toBe(known ? "known" : "new");
  });

  it("reads hashed names, passes over authorities, and refuses revoked keys", async () => {
    // By ssh-keygen -H of OpenSSH 9.2: the name host.example.
    const salt = Buffer.alloc(20, 7);
    const { createHmac } = await import("node:crypto");
    const hash = createHmac("sha1", salt).update("host.example").digest("base64");
    writeFileSync(other, line(`|1|${salt.toString("base64")}|${hash}`, A));
    appendFileSync(other, line("*.example", B, "@cert-authority "));
    const found = await read("host.example");
    expect(found.check(A)).toBe("known");
    expect(() => found.check(B)).toThrow(expect.objectContaining({ code: "access-denied" }));
    appendFileSync(other, line("*", A, "@revoked "));
    const revoked = await read("host.example");
    expect(() => revoked.check(A)).toThrow(
      expect.objectContaining({ message: expect.stringContaining("revoked") }),
    );
  });

  it.skipIf(!existsSync("/usr/bin/ssh-keygen"))(
    "reads what ssh-keygen hashes (needs ssh-keygen)",
    async () => {
      const made = join(dir, "id");
      execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", made]);
      const [, text = ""] = readFileSync(`${made}.pub`, "utf8").split(" ");
      writeFileSync(other, `[host.example]:2222 ${ED} ${text}\n`);
      execFileSync("ssh-keygen", ["-q", "-H", "-f", other], { stdio: "ignore" });
      expect(readFileSync(other, "utf8")).not.toContain("host.example");
      expect((await read("host.example", 2222)).check(Buffer.from(text, "base64"))).toBe("known");
    },
  );
});
