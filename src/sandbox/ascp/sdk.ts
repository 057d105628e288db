/**
 * Archives in the shape of IBM's Transfer SDK that hold the stand-in `ascp`, sound ones and ones that no installer may
 * fall for.
 */
import { gzipSync } from "node:zlib";
import { type ZipInput, zipStream } from "../../lib/zip-writer.ts";
import { LICENCE, launcher } from "./product.ts";

export const SDK_FORMS = [
  "sound",
  "dot-slash",
  "no-ascp",
  "broken-ascp",
  "climbing",
  "link-out",
  "duplicate",
  "truncated",
] as const;

/**
 * `sound`; `dot-slash`: entry names begin with `./`; `no-ascp`: the program is missing; `broken-ascp`: it ends with 1 and a
 * word; `climbing`: an entry's path leads out of the folder; `link-out`: an entry is written through a link that leads
 * out; `duplicate`: two programs of one base name; `truncated`: the archive ends in the middle.
 */
export type SdkForm = (typeof SDK_FORMS)[number];

interface Entry {
  readonly name: string;
  readonly mode: number;
  readonly content: string;
  /** A symbolic link there. */
  readonly link?: string;
}

const TOP = "ibm-aspera-transfer-sdk";

function entriesOf(form: SdkForm): Entry[] {
  const program = (name: string, content: string): Entry => ({ name, mode: 0o755, content });
  const text = (name: string, content: string): Entry => ({ name, mode: 0o644, content });
  const ascp = form === "broken-ascp" ? "#!/bin/sh\necho broken >&2\nexit 1\n" : launcher();
  const other = '#!/bin/sh\n# Gantry sandbox: stand-in, does nothing\necho "stand-in version 1.1.10"\n';
  const prefix = form === "dot-slash" ? "./" : "";
  const all: Entry[] = [
    ...(form === "no-ascp" ? [] : [program("bin/ascp", ascp)]),
    program("bin/ascp4", other),
    program("bin/async", other),
    program("sbin/transferd", other),
    text("lib/libstandin.so", "Gantry sandbox: stand-in library\n"),
    text("etc/aspera-license", LICENCE),
    text("api/transferd.proto", 'syntax = "proto3";\n'),
    ...(form === "duplicate" ? [program("aspera/ascp", other)] : []),
  ];
  const named = all.map((entry) => ({ ...entry, name: `${prefix}${TOP}/${entry.name}` }));
  if (form === "climbing") named.push(text(`${TOP}/bin/../../../climbed`, "out\n"));
  if (form === "link-out")
    named.push(
      { name: `${TOP}/lib/out`, mode: 0o777, content: "", link: "../../.." },
      text(`${TOP}/lib/out/written-through`, "out\n"),
    );
  return named;
}

export function sdkTarGz(form: SdkForm): Buffer {
  const blocks = entriesOf(form).flatMap(({ name, mode, content, link }) => [
    tarHead(name, mode, link === undefined ? Buffer.byteLength(content) : 0, link),
    padded(Buffer.from(link === undefined ? content : "")),
  ]);
  const whole = gzipSync(Buffer.concat([...blocks, Buffer.alloc(1024)]));
  return form === "truncated" ? whole.subarray(0, whole.length >> 1) : whole;
}

/** As for Windows and macOS. A zip by this writer holds no links: such forms come without. */
export async function sdkZip(form: SdkForm): Promise<Buffer> {
  const inputs: ZipInput[] = entriesOf(form)
    .filter(({ link }) => link === undefined)
    .map(({ name, content }) => ({ name, body: Buffer.from(content) }));
  const chunks: Uint8Array[] = [];
  for await (const chunk of zipStream(inputs)) chunks.push(chunk);
  const whole = Buffer.concat(chunks);
  return form === "truncated" ? whole.subarray(0, whole.length >> 1) : whole;
}

/** The index: YAML records, newest last, as IBM's list is in no order that a client could rely on. */
export function sdkIndex(base: string): string {
  const platforms = [
    ["linux", "x86_64", "linux-x86_64", "linux-amd64", "tar.gz"],
    ["linux", "arm64", "linux-arm64", "linux-aarch64", "tar.gz"],
    ["osx", "arm64", "osx-arm64", "macos-arm64", "zip"],
    ["osx", "x86_64", "osx-x86_64", "macos-amd64", "zip"],
    ["windows", "x86_64", "windows-x86_64", "windows-amd64", "zip"],
  ] as const;
  const records = ["1.1.4", "1.1.9", "1.1.10"].flatMap((version) =>
    platforms.map(([os, arch, platform, name, ending]) =>
      [
        `- url: ${base}/ibm-aspera-transfer-sdk-${name}-${version}.${ending}`,
        `  version: ${version}`,
        `  os: ${os}`,
        `  arch: ${arch}`,
        `  platform: ${platform}`,
        "  comment: stand-in of the Gantry sandbox",
      ].join("\n"),
    ),
  );
  return `---\n${records.join("\n")}\n`;
}

/** A head of the ustar format (POSIX.1-1988). */
function tarHead(name: string, mode: number, sizeBytes: number, link: string | undefined): Buffer {
  const head = Buffer.alloc(512);
  head.write(name, 0, 100);
  head.write(`${mode.toString(8).padStart(7, "0")}\0`, 100);
  head.write("0000000\0", 108);
  head.write("0000000\0", 116);
  head.write(`${sizeBytes.toString(8).padStart(11, "0")}\0`, 124);
  head.write("14000000000\0", 136);
  head.write("        ", 148);
  head.write(link === undefined ? "0" : "2", 156);
  head.write(link ?? "", 157, 100);
  head.write("ustar\x0000", 257);
  const sum = head.reduce((total, byte) => total + byte, 0);
  head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return head;
}

const padded = (content: Buffer): Buffer =>
  Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
