/**
 * Adds and removes an archive's table in a configuration file's text. Every other line stays as its owner wrote it,
 * comments and order included; what comes out is read back and compared before anything is written.
 */
import { realpath, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { type ArchiveConfig, parseConfig, readText } from "../config.ts";
import { assert, RunError } from "../errors.ts";
import { ensureFolder, writeFileDurably } from "../lib/durable-file.ts";

/** A TOML basic string; what JSON escapes TOML does, DEL aside (toml.io v1.0.0, String). */
const quoted = (text: string): string => JSON.stringify(text).replaceAll("\u007f", "\\u007f");

/** The text with the archive's table at its end. */
export function buildWithArchive(text: string, { name, kind, url, settings }: ArchiveConfig): string {
  const lines = Object.entries({ kind, url, ...settings }).map(([key, value]) => {
    const bare = /^[A-Za-z0-9_-]+$/u.test(key) ? key : quoted(key);
    return `${bare} = ${quoted(value)}\n`;
  });
  const gap = text === "" || text.endsWith("\n\n") ? "" : text.endsWith("\n") ? "\n" : "\n\n";
  return `${text}${gap}[archives.${name}]\n${lines.join("")}`;
}

/**
 * The text without the archive's table and the comment lines that stand right above it; null when the table is not
 * written as one of its own (an inline table or dotted keys), which only its owner can take out.
 */
export function buildWithoutArchive(text: string, name: string): string | null {
  const lines = text.split(/(?<=\n)/u);
  const isHeader = (line: string): boolean => /^\s*\[/u.test(line);
  const own = new RegExp(
    `^\\s*\\[\\s*(?:archives|"archives"|'archives')\\s*\\.\\s*["']?${name}["']?\\s*\\]`,
    "u",
  );
  const begin = lines.findIndex((line) => own.test(line));
  if (begin < 0) return null;
  let end = begin + 1;
  while (end < lines.length && !isHeader(lines[end] as string)) end += 1;
  // Blank lines and comments right above the next table are that one's.
  if (end < lines.length)
    while (end > begin + 1 && /^\s*(#.*)?$/u.test((lines[end - 1] as string).trimEnd())) end -= 1;
  let first = begin;
  while (first > 0 && /^\s*#/u.test(lines[first - 1] as string)) first -= 1;
  // A comment that begins the file is about the file, unless a blank line parts it.
  if (first === 0) first = begin;
  const before = lines.slice(0, first);
  const after = lines.slice(end);
  while (before.length > 0 && before.at(-1)?.trim() === "" && (after[0] ?? "").trim() === "") before.pop();
  return [...before, ...after].join("");
}

/** Writes an archive into the file, which is made when missing. Throws `usage`, `disk-…`. */
export async function addArchive(path: string, archive: ArchiveConfig): Promise<void> {
  const text = readText(path) ?? "";
  const earlier = parseConfig(text, path);
  assert(!earlier.some(({ name }) => name === archive.name), "the archive is not in the file");
  const made = buildWithArchive(text, archive);
  if (!isSame(readBack(made, path), [...earlier, archive]))
    throw unsure(path, `add [archives.${archive.name}]`);
  await write(path, made);
}

/** Takes an archive out of the file. False: it is not there. Throws `usage`, `disk-…`. */
export async function removeArchive(path: string, name: string): Promise<boolean> {
  const text = readText(path) ?? "";
  const earlier = parseConfig(text, path);
  if (!earlier.some((archive) => archive.name === name)) return false;
  const made = buildWithoutArchive(text, name);
  const rest = earlier.filter((archive) => archive.name !== name);
  if (made === null || !isSame(readBack(made, path), rest))
    throw unsure(path, `remove ${name} from [archives]`);
  await write(path, made);
  return true;
}

/** What the new text says; null when it is no configuration any more. */
function readBack(text: string, path: string): ArchiveConfig[] | null {
  try {
    return parseConfig(text, path);
  } catch {
    return null;
  }
}

const isSame = (one: readonly ArchiveConfig[] | null, other: readonly ArchiveConfig[]): boolean =>
  one !== null && plain(one) === plain(other);

/** Archives without where they came from, in a form to compare. */
const plain = (archives: readonly ArchiveConfig[]): string =>
  archives
    .map(({ name, kind, url, settings }) =>
      JSON.stringify([name, kind, url, Object.entries(settings).sort()]),
    )
    .sort()
    .join("\n");

const unsure = (path: string, what: string): RunError =>
  new RunError("usage", `${path} is written in a way that can't be changed without harm`, {
    hint: `${what} with an editor`,
  });

async function write(path: string, text: string): Promise<void> {
  await ensureFolder(dirname(path), { mode: 0o700 });
  // A link is followed: people keep their configuration in another folder.
  const target = await realpath(path).catch(() => path);
  const mode = await stat(target).then(
    (facts) => facts.mode & 0o777,
    () => 0o666,
  );
  await writeFileDurably(target, text, { mode });
}
