// An emulator of GitHub that nobody here wrote: one person, two repositories, one app. It lives until its input ends.

const here = JSON.parse(process.env.EMULATED);
const { createEmulator } = await import(here.emulate);
const emulator = await createEmulator({
  service: "github",
  port: here.port,
  seed: {
    tokens: { [here.token]: { login: "ada", scopes: ["repo"] } },
    github: {
      users: [{ login: "ada", name: "Ada Lovelace", email: "ada@example.com" }],
      repos: [
        { owner: "ada", name: "engine", auto_init: true },
        { owner: "ada", name: "notes", private: true },
      ],
      oauth_apps: [{ client_id: here.client, client_secret: here.secret, name: "oO", redirect_uris: [here.redirect] }],
    },
  },
});
console.log(emulator.url);
process.stdin.resume();
process.stdin.on("end", () => emulator.close().then(() => process.exit(0)));
