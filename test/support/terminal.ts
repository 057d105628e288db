/** The program on a real terminal: a pseudo-terminal of Python's, and somebody who types. */
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { ensureBuilt, root } from "./gantry.ts";

export const hasTerminal: boolean =
  process.platform !== "win32" && spawnSync("python3", ["-c", "import pty"]).status === 0;

/** Waits for each prompt in turn and types the answer; then copies what comes until the end. */
const TYPIST = `
import json, os, pty, sys
argv, answers = json.loads(sys.argv[1]), json.loads(sys.argv[2])
pid, fd = pty.fork()
if pid == 0:
    os.execv(argv[0], argv)
seen = b""
while True:
    try:
        chunk = os.read(fd, 4096)
    except OSError:
        break
    if not chunk:
        break
    seen += chunk
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
    if answers and answers[0][0].encode() in seen:
        seen = b""
        os.write(fd, answers.pop(0)[1].encode())
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
`;

/** `answers`: a prompt to wait for, and what is typed then (`\r` is the Enter key). Resolves to what the screen showed. */
export async function typeInto(
  args: readonly string[],
  answers: readonly (readonly [prompt: string, typed: string])[],
  env: Readonly<Record<string, string>>,
): Promise<{ readonly code: number | null; readonly screen: string }> {
  ensureBuilt();
  const argv = [process.execPath, join(root, "bin/gantry.js"), ...args];
  const child = spawn("python3", ["-c", TYPIST, JSON.stringify(argv), JSON.stringify(answers)], { env });
  let screen = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    screen += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  return { code, screen };
}
