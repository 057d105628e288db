/** Files of a site are asked for before they are wanted: seen from a server that answers none until several were. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { type Context, systemClock } from "../../lib/context.ts";
import { createRedactor } from "../../lib/redact.ts";
import { startHoldingServer } from "../../transports/sftp/holding-server.test-support.ts";
import { createSftp } from "../../transports/sftp/sftp.ts";
import { SiteSecrets } from "../../transports/site-secrets.ts";
import { fileItem, fileOf } from "./map.ts";
import { SftpFetch } from "./sftp-road.ts";

it("asks for files ahead, and one that nobody comes for is closed", async () => {
  const server = await startHoldingServer();
  const home = await mkdtemp(join(tmpdir(), "gantry-road-"));
  const environment = { HOME: home, ASPERA_SCP_PASS: "secret" };
  const redactor = createRedactor();
  const secrets = new SiteSecrets({ environment, redactor });
  const common = { environment, redactor, secrets, stallTimeoutMs: 5000, knownHosts: join(home, "known") };
  const sftp = createSftp({ user: "a", host: "127.0.0.1", ports: [server.port] }, common);
  const context: Context = {
    ...{ signal: new AbortController().signal, clock: systemClock, random: () => 0.5, log: () => undefined },
  };
  const fetches = ["one", "two", "three"].map((name) => {
    const entry = {
      path: [name],
      type: "file",
      bytes: 9,
      mtimeSeconds: 1_600_000_000,
      isLink: false,
    } as const;
    server.files.set(`./${name}`, {
      bytes: Buffer.from(`text ${name}`.padEnd(9)),
      mtimeSeconds: 1_600_000_000,
    });
    const item = fileItem({ archive: "aspera://a@127.0.0.1", entry, selected: null, decrypts: false });
    const file = fileOf(item) as NonNullable<ReturnType<typeof fileOf>>;
    return new SftpFetch({ item, file, sftp, scratch: home, remotePath: async () => `./${name}` }, context);
  });
  const opens = (): number => server.asked.filter(({ kind }) => kind === "OPEN").length;
  server.mayAnswer = ({ kind }) => kind !== "OPEN" || opens() === fetches.length;
  for (const each of fetches) each.begin();
  const texts: string[] = [];
  for (const each of fetches.slice(0, 2)) {
    const delivery = each.delivery();
    if ("error" in delivery) throw delivery.error;
    for await (const { body } of delivery.entries)
      for await (const chunk of body) texts.push(Buffer.from(chunk).toString());
  }
  expect(texts).toEqual(["text one ", "text two "]);
  for (const each of fetches) each.close();
  await expect.poll(() => server.asked.filter(({ kind }) => kind === "CLOSE").length).toBe(fetches.length);
  sftp.close();
  await server.close();
  await rm(home, { recursive: true, force: true });
});
