/** What `cat` and `unpack` leave out of an archive file of another program. */
import type { Io } from "../io.ts";
import { counted } from "./wording.ts";
import { say } from "./writer.ts";

/** The exit status: 3 when something was left out, which is said. */
export function tellLeft(io: Io, left: { readonly count: number; readonly first: string | null }): number {
  if (left.count === 0) return 0;
  const members = `${counted(left.count, "member")} left out, the first ${JSON.stringify(left.first)}`;
  say(io, `${members}: only plain files are read, no links, no devices and no sparse files.`);
  return 3;
}
