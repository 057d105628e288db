import { describe, expect, it } from "vitest";
import { buildAscpCall, sessionsOf, type TransferSpec } from "./transfer-spec.ts";

const spec = (more: Partial<TransferSpec> = {}): TransferSpec => ({
  direction: "receive",
  remote_host: "h",
  paths: [{ source: "/a b" }],
  ...more,
});

describe("a transfer specification", () => {
  it("of a package becomes the line that other clients send", () => {
    const call = buildAscpCall(
      spec({
        remote_user: "faspex",
        ssh_port: 33001,
        fasp_port: 33001,
        token: "ATM2_ACsecretTA",
        cookie: "aspera.faspex:secret",
        cipher: "aes-128",
        rate_policy: "fair",
        target_rate_kbps: 45000,
        min_rate_kbps: 0,
        source_root: "",
        create_dir: true,
        resume_policy: "sparse_csum",
        http_fallback: false,
        authentication: "token",
        rate_policy_allowed: "fixed",
        lock_rate_policy: false,
        multi_session: 0,
        tags: { aspera: { faspex: { id: 1 } } },
        brand_new: 1,
      }),
    );
    expect(call.args).toEqual([
      "--mode=recv",
      "--host=h",
      "--user=faspex",
      "-P",
      "33001",
      "-O",
      "33001",
      "-c",
      "aes128",
      "--policy=fair",
      "-l",
      "45000",
      "-m",
      "0",
      "-d",
      "-k",
      "2",
      "-y",
      "0",
      `--tags64=${Buffer.from('{"aspera":{"faspex":{"id":1}}}').toString("base64")}`,
    ]);
    expect(call.env).toEqual({
      ASPERA_SCP_TOKEN: "ATM2_ACsecretTA",
      ASPERA_SCP_COOKIE: "aspera.faspex:secret",
    });
    expect(call.list).toEqual({ option: "--file-list", text: "/a b\n" });
    expect(call.ignored).toEqual(["brand_new"]);
  });

  it.each([
    [{ source_root: "/r" }, `--source-prefix64=${Buffer.from("/r").toString("base64")}`],
    [{ src_base: "/b" }, `--src-base64=${Buffer.from("/b").toString("base64")}`],
    [{ src_base64: "L2I=" }, "--src-base64=L2I="],
    [{ cipher: "none" }, "-T"],
    [{ content_protection: "decrypt" }, "--file-crypt=decrypt"],
    [{ resume_policy: "full_checksum" }, "-k 3"],
    [{ overwrite: "never" }, "--overwrite=never"],
    [{ symlink_policy: "skip" }, "--symbolic-links=skip"],
    [{ file_checksum: "sha-256" }, "--file-checksum=sha-256"],
    [{ preserve_times: true }, "-p"],
    [{ preserve_file_owner_uid: true }, "--preserve-file-owner-uid"],
    [{ preserve_extended_attrs: "native" }, "--preserve-xattrs=native"],
    [{ precalculate_job_size: true }, "--precalculate-job-size"],
    [{ precalculate_job_size: false }, "--precalculate-disable"],
    [{ dgram_size: 1400 }, "-Z 1400"],
    [{ proxy: "dnat://p" }, "--proxy=dnat://p"],
    [{ http_fallback: "force", http_fallback_port: 8080 }, "-y F -t 8080"],
    [{ sshfp: "abc" }, "--check-sshfp=abc"],
    [{ wss_enabled: true, wss_port: 9093, ssh_port: 22, fasp_port: 1, sshfp: "x" }, "--ws-connect -P 9093"],
    [{ ssh_private_key_path: "/k" }, "-i /k"],
    [{ skip_duplicate_check: true }, "--skip-dir-traversal-dupes"],
    [
      { delete_source: true },
      "--remove-after-transfer --remove-empty-directories --remove-empty-source-directory",
    ],
    [{ use_system_ssh: true, ssh_args: ["-v"] }, "-SSH --ssh-arg=-v"],
    [{ fail_bad_filepass: true }, "--fail-bad-filepass"],
    [{ keepalive: false }, ""],
    [{ tags64: "e30=" }, "--tags64=e30="],
    [{ move_after_transfer: "/done" }, "--move-after-transfer=/done"],
  ] as const)("%j is %s", (more, wanted) => {
    const { args } = buildAscpCall(spec(more));
    expect(args.slice(2).join(" ")).toBe(wanted);
  });

  it.each([
    ["remote_password", "ASPERA_SCP_PASS"],
    ["ssh_private_key", "ASPERA_SCP_KEY"],
    ["content_protection_password", "ASPERA_SCP_FILEPASS"],
    ["proxy_password", "ASPERA_PROXY_PASS"],
  ])("%s goes to the environment alone", (key, name) => {
    const { args, env } = buildAscpCall(spec({ [key]: "hunter2" }));
    expect(env).toEqual({ [name]: "hunter2" });
    expect(args.join(" ")).not.toContain("hunter2");
  });

  it("has pairs where every path says where it goes, and no name that a line can't hold", () => {
    const paths = [
      { source: "/a", destination: "0" },
      { source: "/b", destination: "1" },
    ];
    expect(buildAscpCall(spec({ paths })).list).toEqual({
      option: "--file-pair-list",
      text: "/a\n0\n/b\n1\n",
    });
    expect(() => buildAscpCall(spec({ paths: [{ source: "a\nb" }] }))).toThrow(
      expect.objectContaining({ code: "usage" }),
    );
  });

  it("takes a large multi_session for the threshold that it is", () => {
    expect(
      [0, 1, 2, 128, 129, 100_000_000, undefined].map((n) => sessionsOf(spec({ multi_session: n }))),
    ).toEqual([1, 1, 2, 128, 1, 1, 1]);
  });
});
