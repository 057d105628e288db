/** Flags of every command that asks an archive: where its replies are kept. */
import type { Flag, Running } from "./command.ts";

export interface CacheFlags {
  readonly cacheDir?: string;
  readonly refresh?: boolean;
}

const GROUP = "Kept replies:";

export const CACHE_FLAGS: readonly Flag[] = [
  {
    flags: "--cache-dir <dir>",
    help: "keep the archive's lists here and use them for a day (default: GANTRY_CACHE_DIR)",
    group: GROUP,
  },
  { flags: "--refresh", help: "ask again, and keep the new lists", group: GROUP },
];

/** For `open`. */
export function cacheOptions({ cacheDir, refresh }: CacheFlags, { io }: Running): CacheFlags {
  const dir = cacheDir ?? io.env.GANTRY_CACHE_DIR ?? "";
  return { ...(dir === "" ? {} : { cacheDir: dir }), ...(refresh === undefined ? {} : { refresh }) };
}
