/** Files that ascp decrypted while it fetched them: other data than the same files as they lie at the server. */
import { RunError } from "../../errors.ts";

/** Throws `access-login` where encrypted files would take the place of decrypted ones. */
export function checkStaysClear(subject: string, before: boolean, now: boolean): void {
  if (!before || now) return;
  throw new RunError("access-login", `${subject}: what is here was decrypted, and would come encrypted now`, {
    hint: "put the passphrase into the variable ASPERA_SCP_FILEPASS again; to have the files as they are there, use another folder",
  });
}
