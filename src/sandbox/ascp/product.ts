/** A folder as an Aspera product leaves it: the stand-in `ascp` with its licence, configuration and key. */
import { chmod, mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export interface Product {
  /** Removed by who asked for it. */
  readonly folder: string;
  readonly ascp: string;
  readonly key: string;
}

/** In `bin/` the program, in `etc/` what belongs to it, as in IBM's products. */
export async function placeProduct(): Promise<Product> {
  const folder = await mkdtemp(join(tmpdir(), "gantry-stand-in-ascp-"));
  const [bin, etc] = [join(folder, "bin"), join(folder, "etc")];
  await mkdir(bin);
  await mkdir(etc);
  const ascp = join(bin, "ascp");
  const key = join(etc, "aspera_tokenauth_id_rsa");
  await writeFile(ascp, launcher());
  await chmod(ascp, 0o755);
  await writeFile(join(etc, "aspera-license"), LICENCE);
  await writeFile(join(etc, "aspera.conf"), CONFIGURATION);
  await writeFile(key, KEY, { mode: 0o600 });
  return { folder, ascp, key };
}

/** Node runs no TypeScript: from a checkout's sources the built program is taken. */
export function launcher(): string {
  const here = import.meta.url;
  const program = here.endsWith(".ts")
    ? new URL("../../../dist/sandbox/ascp/program.js", here)
    : new URL("program.js", here);
  const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  return [
    "#!/bin/sh",
    "# Gantry sandbox: stand-in for ascp",
    `GANTRY_STAND_IN_LAUNCHER=$0 exec ${quote(process.execPath)} ${quote(fileURLToPath(program))} "$@"`,
    "",
  ].join("\n");
}

export const LICENCE = "Gantry sandbox: stand-in licence\n";

/** The suffixes are those that IBM's Connect and Transfer SDK configure. */
export const CONFIGURATION = `<?xml version='1.0' encoding='UTF-8'?>
<CONF version="2">
<default>
  <file_system>
    <resume_suffix>.aspera-ckpt</resume_suffix>
    <partial_file_suffix>.partial</partial_file_suffix>
  </file_system>
</default>
</CONF>
`;

/** Looks like a key, and opens nothing but the sandbox's doors: what is inside says so. */
export const KEY = [
  "-----BEGIN RSA PRIVATE KEY-----",
  Buffer.from("This is no key. It stands in for the one of an Aspera product in Gantry's sandbox.")
    .toString("base64")
    .replace(/.{64}/g, "$&\n"),
  "-----END RSA PRIVATE KEY-----",
  "",
].join("\n");
