/** What somebody can do about an archive file that is not as it was written. */
import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { indexPath } from "../../model/receipt.ts";

/** Of a folder whose receipts say what should be there. */
export const folderMending = (dir: string): string =>
  `\`gantry verify ${dir}\` finds all that is damaged, then \`gantry get -o ${dir}\` mends it`;

/** Of an archive file, which may lie in such a folder. */
export async function fileMending(file: string): Promise<string> {
  return (await isKept(file))
    ? folderMending(dirname(file))
    : "copy the archive file again from where it came from, or have it made again";
}

/** Of a file that holds something else than its index says, which of the two may be wrong. */
export async function bothMending(file: string): Promise<string> {
  const dir = dirname(file);
  return (await isKept(file))
    ? `delete ${indexPath(file)}, then \`gantry verify ${dir}\` and \`gantry get -o ${dir}\` make both right`
    : "copy the archive file and its index again from where they came from";
}

/** Of the index alone. */
export async function indexMending(index: string): Promise<string> {
  const makes = (await isKept(index)) ? `, and \`gantry get -o ${dirname(index)}\` makes it again` : "";
  return `delete it: the archive file can be read without${makes}`;
}

async function isKept(path: string): Promise<boolean> {
  return (await stat(join(dirname(path), ".gantry")).catch(() => null))?.isDirectory() ?? false;
}
