/** The tree of a site that speaks SFTP: names looked up in it, folders listed, and the whole of it file by file. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { nearMatches } from "../../model/address.ts";
import { formatAddress, formatPath } from "../../model/selection.ts";
import type { SftpConnection, SftpEntry } from "../../transports/sftp/connection.ts";
import type { Sftp } from "../../transports/sftp/sftp.ts";
import type { SourceContext } from "../source.ts";
import type { SiteEntry } from "./map.ts";

/** Loops that a server does not show as such would be followed for ever: links of one path that it does not resolve … */
const MAX_UNTOLD_LINKS = 8;
/** … and folders of one path, where it gives a link out as a folder. */
const MAX_DEPTH = 100;

export class SiteTree {
  readonly #sftp: Sftp;
  readonly #archive: string;
  /** Where a path begins, by its first name: the account's own folder, or the root. */
  readonly #starts = new Map<string, string>();

  constructor(sftp: Sftp, archive: string) {
    this.#sftp = sftp;
    this.#archive = archive;
  }

  /** A path as the server is asked for it. */
  async remotePath(path: readonly string[], context: Context): Promise<string> {
    const [first] = path;
    if (first === undefined) return ".";
    let start = this.#starts.get(first);
    if (start === undefined) {
      const sftp = await this.#connection(context);
      // Of an account without a folder of its own people write paths from the root, as scp takes them.
      const below = (await sftp.facts(`./${first}`)) !== null || (await sftp.facts(`/${first}`)) === null;
      start = below ? "." : "";
      this.#starts.set(first, start);
    }
    return `${start}/${path.join("/")}`;
  }

  /** The entry at a path, as the server spells it. Throws `unknown-name`, with near matches. */
  async find(path: readonly string[], context: SourceContext): Promise<SiteEntry> {
    const exact = await this.#ask(context, () => this.#facts(path, context));
    if (exact) return exact;
    let entry: SiteEntry | null = await this.#ask(context, () => this.#facts([], context));
    for (const name of path) {
      if (entry?.type !== "folder") throw this.#notThere(entry?.path ?? [], name, []);
      const names: SiteEntry[] = [];
      for await (const each of this.folder(entry.path, context)) names.push(each);
      const named = (spelt: (text: string) => string): SiteEntry | undefined => {
        const same = names.filter((each) => spelt(nameOf(each)) === spelt(name));
        return same.length === 1 ? same[0] : undefined;
      };
      const next =
        names.find((each) => nameOf(each) === name) ??
        // A terminal may spell an umlaut in another way than the server does.
        named((text) => text.normalize("NFC")) ??
        named((text) => text.normalize("NFC").toLowerCase());
      if (!next) throw this.#notThere(entry.path, name, names.map(nameOf));
      entry = next;
    }
    if (!entry) throw this.#notThere([], path.join("/"), []);
    return entry;
  }

  #notThere(folder: readonly string[], name: string, names: readonly string[]): RunError {
    const near = nearMatches(name, names);
    const { host } = this.#sftp.site;
    const where = folder.length === 0 ? "" : ` in ${JSON.stringify(formatPath(folder))}`;
    return new RunError("unknown-name", `${host} has no ${JSON.stringify(name)}${where}`, {
      hint:
        near.length > 0
          ? `did you mean ${near.map((each) => JSON.stringify(formatPath([...folder, each]))).join(", ")}?`
          : `list what is there: gantry ls ${formatAddress(this.#archive, folder)}`,
    });
  }

  /** What is in a folder, in the server's order, links followed; after a retry entries come again. */
  folder(path: readonly string[], context: SourceContext): AsyncGenerator<SiteEntry> {
    return context.retry.stream(formatAddress(this.#archive, path), () => this.#folder(path, context));
  }

  async *#folder(path: readonly string[], context: SourceContext): AsyncGenerator<SiteEntry> {
    const sftp = await this.#connection(context);
    const remote = await this.remotePath(path, context);
    for await (const entry of sftp.folder(remote)) {
      context.signal.throwIfAborted();
      const found = await this.#entry(path, entry, `${remote}/${entry.name}`, sftp, context);
      if (found) yield found;
    }
  }

  async #entry(
    above: readonly string[],
    { name, ...facts }: SftpEntry,
    remote: string,
    sftp: SftpConnection,
    context: SourceContext,
  ): Promise<SiteEntry | null> {
    const path = [...above, name];
    const isLink = facts.type === "link";
    // A name of other bytes than UTF-8 came with this in it, and can't be asked for again.
    if (name.includes("\ufffd"))
      return {
        path,
        type: "file",
        bytes: facts.bytes,
        mtimeSeconds: facts.mtimeSeconds,
        isLink,
        unreadable: true,
      };
    const real = isLink ? await sftp.facts(remote) : facts;
    const leftOut = (why: string): null => {
      context.log(
        "warn",
        `${this.#sftp.site.host}: ${JSON.stringify(formatPath(path))} ${why}, and is left out`,
      );
      return null;
    };
    if (real === null) return leftOut("is a link that leads nowhere");
    if (real.type !== "file" && real.type !== "folder") return leftOut("is neither file nor folder");
    return { path, type: real.type, bytes: real.bytes, mtimeSeconds: real.mtimeSeconds, isLink };
  }

  /** Every file at or below an entry. A link that leads back to a folder it is in is told and left out. */
  async *files(entry: SiteEntry, context: SourceContext): AsyncGenerator<SiteEntry> {
    if (entry.type === "file") {
      yield entry;
      return;
    }
    const realOf = (path: readonly string[]): Promise<string> =>
      this.#ask(context, async () => {
        const remote = await this.remotePath(path, context);
        return (await (await this.#connection(context)).realPath(remote)) ?? remote;
      });
    const queue: Place[] = [{ path: entry.path, real: await realOf(entry.path), above: [], untold: 0 }];
    for (let place = queue.pop(); place; place = queue.pop()) {
      const below = new Map<string, Place>();
      for await (const each of this.folder(place.path, context)) {
        if (each.type === "file") {
          yield each;
          continue;
        }
        const name = nameOf(each);
        if (below.has(name)) continue;
        const here = `${place.real.replace(/\/$/u, "")}/${name}`;
        const real = each.isLink ? await realOf(each.path) : here;
        const untold = place.untold + (each.isLink && real === here ? 1 : 0);
        const above = [...place.above, place.real];
        const leftOut = (why: string): void =>
          context.log("warn", `${this.#sftp.site.host}: ${formatPath(each.path)} ${why}, and is left out`);
        if (above.includes(real)) leftOut("leads back to a folder it is in");
        else if (untold > MAX_UNTOLD_LINKS || each.path.length > MAX_DEPTH)
          leftOut("lies as deep as in a loop of links");
        else below.set(name, { path: each.path, real, above, untold });
      }
      // Depth first: what waits is the folders beside the path, not a whole level of the tree.
      queue.push(...[...below.values()].reverse());
    }
  }

  async #facts(path: readonly string[], context: SourceContext): Promise<SiteEntry | null> {
    if (path.some((name) => name.includes("/") || name.includes("\u0000"))) return null;
    const remote = await this.remotePath(path, context);
    const facts = await (await this.#connection(context)).facts(remote);
    if (facts === null || (facts.type !== "file" && facts.type !== "folder")) return null;
    const { type, bytes, mtimeSeconds } = facts;
    return { path, type, bytes, mtimeSeconds, isLink: false };
  }

  #ask<T>(context: SourceContext, question: () => Promise<T>): Promise<T> {
    return context.retry.run(this.#archive, question);
  }

  async #connection(context: Context): Promise<SftpConnection> {
    const sftp = await this.#sftp.connection(context);
    if (sftp === null) throw new RunError("archive-error", `${this.#sftp.site.host} has no SFTP any more`);
    return sftp;
  }
}

interface Place {
  readonly path: readonly string[];
  /** Without links. */
  readonly real: string;
  /** The same of the folders on the way to it. */
  readonly above: readonly string[];
  /** How many links on the way to it, itself included, the server does not resolve. */
  readonly untold: number;
}

const nameOf = (entry: SiteEntry): string => entry.path.at(-1) ?? "";
