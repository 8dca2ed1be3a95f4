// A program as anybody would write it: Google's library for Node.js finds its credentials.
const { GoogleAuth } = require('google-auth-library');

async function main() {
  const auth = new GoogleAuth({ scopes: ['https://www.googleapis.com/auth/cloud-platform'] });
  const client = await auth.getClient();
  const { token } = await client.getAccessToken();
  console.log(JSON.stringify({ kind: client.constructor.name, project: await auth.getProjectId(), token }));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
