"""Every bound in one place, each with its reason. Units stand at the end of the name."""

from __future__ import annotations

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20

# Content
CHUNK_BYTES: Final = 4 * MIB  # part of the protocol: all nodes cut alike
BLOB_BYTES_MAX: Final = 1 << 40  # 1 TiB: a chunk map of 32 KiB still fits one frame
TWO_NAMES_BYTES_MAX: Final = 16 * MIB  # files up to here get both hub names (git-sha1, sha256): hubs keep larger ones in LFS
PATH_CHARS_MAX: Final = 1024  # no hub allows more; four times a segment that a file system takes
PATH_SEGMENT_BYTES_MAX: Final = 255  # ext4, XFS
ADOPT_STEP_CHUNKS: Final = 8  # 32 MiB hashed at a time: a daemon that is told to stop waits for a fraction of a second
GC_AGE_S: Final = 3600.0  # what was used since is not removed: its listing may be on its way
PUBLICATION_S_MAX: Final = 366 * 86_400.0  # a name on the LAN; who wants it for longer publishes again
ADOPT_FAILURES_TOLD_MAX: Final = 20  # files that could not be adopted, by name
SNAPSHOT_FILES_MAX: Final = 200_000  # a listing of this many files is ~60 MB of JSON
SNAPSHOT_FILES_DECODED_MAX: Final = 20_000  # of listings kept as objects, ~1 kB a file: what one is asked for again and again
LISTING_BYTES_MAX: Final = 64 * MIB  # what we read from a hub for one listing

# Wire
FRAME_BYTES_MAX: Final = 64 * KIB  # control frames; chunk bytes follow outside them
ARRAY_ITEMS_MAX: Final = 64  # long lists travel as one bin: nested arrays are how msgpack bombs grow (2 MB instead of 69)
MAP_ITEMS_MAX: Final = 32
STRING_BYTES_MAX: Final = 4096
DIGESTS_PER_PAGE_MAX: Final = 1900  # 60,800 bytes: a page and its envelope fit a frame
CHUNKS_PER_GET_MAX: Final = 64  # 256 MiB on one request
REQUESTS_IN_FLIGHT_MAX: Final = 64  # per connection
PEERS_PER_MESSAGE_MAX: Final = 64
ENTRIES_PER_PAGE_MAX: Final = 1400  # × 42 bytes of an inventory: a page fits a frame
INVENTORY_ENTRIES_MAX: Final = 200_000  # one answer, all pages: as many as a snapshot's files; 8.4 MB
INDICES_PER_MESSAGE_MAX: Final = 8_000  # × 4 bytes, in two fields of a frame
RUNS_PER_MESSAGE_MAX: Final = 2500  # × 8 bytes × 3 lists: far more than a node can have orders
ABILITIES_MAX: Final = 32
WATCHES_PER_PEER_MAX: Final = 1024  # blobs of which a peer is told as they come: some hundred times FILES_AT_ONCE
HUB_REST_MAX_S: Final = 86_400.0  # a peer's word must not rest a hub for longer than a day
SNAPSHOT_PAGE_BYTES_MAX: Final = 60_000
DENY_LIST_PAGE_BYTES_MAX: Final = 60_000
DENY_LIST_BYTES_MAX: Final = MIB  # some 20,000 certificates: a larger list is read from its file, and not told to peers
SNAPSHOT_BYTES_MAX: Final = 16 * MIB  # a listing as peers hand it on

LISTING_WITNESSES: Final = 3  # members whose listings are compared while the hub is gone; 48 MiB on their way at most
MEMBERS_LISTING_S: Final = 3.0  # for all of them together: "a clear error within 5 s", most of which the hub has had

GLOBS_PER_MESSAGE_MAX: Final = 16  # × 255 characters × 2 lists: a question fits a frame
RATE_MAX: Final = float(1 << 40)  # bytes/s: more than any network

# Links
LINKS_MAX: Final = 256  # a cluster of 200 and some guests
UNPROVEN_CONNECTIONS_MAX: Final = 32  # connections whose handshake is not done; of strangers, and of linked hosts
UNPROVEN_PER_ADDRESS_MAX: Final = 8
CONNECTIONS_PER_PEER_MAX: Final = 4
HANDSHAKE_TIMEOUT_S: Final = 5.0
DIAL_TIMEOUT_S: Final = 5.0
HEARTBEAT_S: Final = 5.0
HEARTBEATS_MISSED_MAX: Final = 3
QUIET_S: Final = 1.5 * HEARTBEAT_S  # a peer of which nothing was heard for so long is not waited for: its work is taken over
SEND_QUEUE_MESSAGES_MAX: Final = 1024  # a link that cannot drain this is dead or hostile
ANSWER_TIMEOUT_S: Final = 10.0  # a question to a peer
CHUNK_PROGRESS_TIMEOUT_S: Final = 10.0  # no byte of an order for so long: it goes elsewhere
CHUNK_TIME_MAX_S: Final = 300.0  # nor may one chunk take longer (14 kB/s): a byte now and then is no progress
CANDIDATES_MAX: Final = 1000  # addresses heard of, not yet proven
CANDIDATES_PER_ADDRESS_MAX: Final = 8
CANDIDATE_EXPIRY_S: Final = 60.0
REDIAL_MIN_S: Final = 1.0
REDIAL_MAX_S: Final = 30.0
REDIAL_SILENT_S: Final = 300.0  # the same for one long unheard of: 256 remembered dead ones cost a dial a second
DIALS_PER_S_MAX: Final = 10.0  # a flood of false hints must not make us a scanner
DIALS_AT_ONCE_MAX: Final = 32
LINKS_PER_ADDRESS_MAX: Final = 8  # open mode: ids are free to mint, addresses less so
PEER_EXCHANGE_S: Final = 30.0
REMEMBERED_BYTES_MAX: Final = 64 * KIB  # peers.json: LINKS_MAX peers take half
ANSWERS_AT_ONCE_MAX: Final = 8  # over all links; one answer may be 16 MiB
CATCH_UPS_AT_ONCE_MAX: Final = 4  # inventories being read; each may be 8 MB on its way in
INVENTORY_ENTRIES_KEPT_MAX: Final = 200_000  # of all peers together: ~30 MB
TICKET_S: Final = 10.0
DATA_IDLE_S: Final = 30.0  # a data connection is kept for the next order for so long; the seeder waits twice that
SEED_PROGRESS_TIMEOUT_S: Final = 30.0  # a peer that does not take a chunk in so long is cut

OTHER_VERSIONS_MAX: Final = 64  # hosts with nodes of another version of which is told
OTHER_VERSION_S: Final = 2 * REDIAL_SILENT_S  # one that has not tried for so long was upgraded, or is gone
OTHER_VERSION_AGAIN_S: Final = 3600.0  # how often the log says so of a host

DENY_LIST_RETRY_S: Final = 60.0  # a peer whose deny list was none is not asked for it again for so long
MEMBERSHIP_CHECK_S: Final = 5.0  # how often key and deny list are read again: a denied node is out within a minute
DIAL_TURNS_MAX: Final = 1024  # addresses of which is remembered under which of two keys they answered

# Discovery
TXT_BYTES_MAX: Final = 400  # beyond ~9,000 a record resolves nowhere; one small packet is the polite size
REANNOUNCE_S: Final = 15.0  # two groups that met after starting apart found each other only by this
ANNOUNCE_GAP_MIN_S: Final = 1.0  # a busy inventory must not flood the multicast group
MDNS_RETRY_S: Final = 30.0  # no network yet, or another responder holds the port
MDNS_WAITING_MAX: Final = 256  # records on their way from zeroconf's thread
MDNS_RESOLVING_MAX: Final = 32  # questions asked of nodes whose announcement came in parts
MDNS_PRESENT_MAX: Final = 512
MDNS_ADDRESSES_MAX: Final = 1024  # senders whose measure is remembered
MDNS_NAMES_KNOWN_MAX: Final = 1024  # nodes that are heard whenever they speak
MDNS_NAMES_PER_S: Final = 4.0  # new ones, of all addresses: each is four records in zeroconf's memory, for minutes
MDNS_NAMES_BURST: Final = 512  # two hundred nodes may start together, and again with other ids
MDNS_NAMES_PER_ADDRESS_S: Final = 1.0  # a reflector speaks for all nodes of another segment
MDNS_NAMES_PER_ADDRESS_BURST: Final = 64
MDNS_PACKETS_PER_ADDRESS_S: Final = 64.0  # a node speaks thrice a second at most
MDNS_PACKETS_PER_ADDRESS_BURST: Final = 256
MDNS_STRANGE_PER_S: Final = 16.0  # packets that name no node: printers, speakers, addresses of hosts whose names are no ids
MDNS_STRANGE_BURST: Final = 64

# Swarm and delivery
RUN_CHUNKS_MAX: Final = 16  # 64 MiB: one hub request serves many chunks
LEASE_S: Final = 10.0  # a claimed run without progress for so long may be claimed by the next
CLAIM_REPEAT_S: Final = 2.5  # a claimant whose bytes flow says so this often: four may be lost before its lease runs out
SETTLE_S: Final = 1.0  # how long a cold start waits for another peer's answer before it asks the hub
SETTLE_MAX_S: Final = 3.0  # and for all of them together: fifty on a busy machine take more than one second
BUFFERS: Final = 16  # × 4 MiB: with ~60 MB of Python this keeps a daemon under 150 MiB
BUFFERS_OF_PEERS: Final = 12  # of those: peers that trickle must leave the hub, and the blob's own hash, some to go on with
PACE_SLICE_S: Final = 0.05  # what a limited direction moves at a time: the more urgent wait no longer
PACE_LATE_S: Final = 0.1  # a loop that comes late may make up for so much; over 10 s that is 1 % of a limit
FILES_AT_ONCE: Final = 8  # downloads of one snapshot side by side
LARGE_BLOB_BYTES: Final = 32 * MIB  # below, waiting for the whole file costs a client about what a range of it would
COMMIT_CHUNKS: Final = 8  # a group commit covers at most so many chunks: what a kill -9 can cost
COMMIT_INTERVAL_S: Final = 1.0
READER_WINDOW_CHUNKS: Final = 16
STRIKES_MAX: Final = 3  # wrong bytes from one source within STRIKES_S before it is banned
STRIKES_ONE_BLOB_MAX: Final = 2  # of one blob: bad memory shows at once
STRIKES_S: Final = 600.0
BAN_MIN_S: Final = 600.0  # the first ban for strikes; each one after it is twice as long
BAN_MAX_S: Final = 86_400.0
PARDON_S: Final = 86_400.0  # others' evidence against a forgiven node is not heard: its operator goes from node to node
REST_S: Final = 600.0  # how long an upstream that gave wrong bytes is not asked
SOURCES_REMEMBERED_MAX: Final = 4096  # ids are free to mint in an open cluster: the oldest facts about sources go first

# Words for digests
ATTESTED_CHUNKS_MAX: Final = 16  # under one signature: 664 bytes go with a chunk, and a signature costs a hash of 0.2 MiB
SIGNATURES_REMEMBERED_MAX: Final = 1024  # checked lately: under a megabyte; what many peers show is checked once
SIGNERS_REMEMBERED_MAX: Final = 1024  # by their node ids: a hash for each look at a word
ATTESTATIONS_KEPT_MAX: Final = 512  # our own, signed and not yet grown, of all blobs
SIGNERS_PER_CHUNK_MAX: Final = 4  # words kept of one chunk: two that differ are a dispute, more are noise
WORDS_KEPT_PER_CHUNK_MAX: Final = 2  # beside a partial blob: 1.3 kB a chunk; signed in full batches it is 42 bytes
SEALS_PER_BLOB_MAX: Final = 8  # manifests of others kept while a blob is on its way: 0.5 MiB each at 70 GB
VOUCHERS_SPARE: Final = 2  # members that are asked to vouch beyond as many as have to: one may be gone, one may say otherwise
VOUCHER_S: Final = 3.0  # for one member's voucher and manifest: a client waits for it
PROOF_S: Final = 3.0  # how long a client waits for a list of pieces, and the hub's root; then it waits as if there were none
PIECE_LIST_S: Final = 30.0  # for one peer's list: the longest is some 650 questions and 36 MiB
PIECE_LISTS_ASKED_MAX: Final = 4  # peers, for one download: each that is asked in vain cuts the file
PIECES_MAX: Final = 1 << 20  # of a list: 36 MiB, of a file of 64 GiB and more. Beyond, hubs want files in parts anyhow
PIECES_PER_PAGE_MAX: Final = 1600  # × 36 bytes: a page fits a frame
PIECE_LISTS_DUE_MAX: Final = 256  # files that wait to be cut, one after the other; what is forgotten is asked for again
ATTEST_BYTES_MAX: Final = 60_000  # attestations in one message: it fits a frame
DISPUTES_MAX: Final = 16  # chunks of a blob that are read again because two signers differ, at a time
AUDIT_GATHER_S: Final = 1.0  # how long an audit waits for others whose hash failed as well
ARBITERS: Final = 2  # of those who audit so many read a disputed chunk at once, and the next so many after each step
ARBITERS_STEP_S: Final = 1.0  # for the seal of whoever has settled it costs the hub nothing
ARBITERS_WAIT_MAX_S: Final = 3.0  # to hash 2 GB; where it takes longer a chunk is little beside the file
AUDIT_WORDS_MAX: Final = 80  # in one message: 54 kB
AUDIT_ROUNDS_MAX: Final = 3  # then whoever still fails reads all that it did not read itself
EVIDENCE_KEPT_MAX: Final = 256  # proofs against banned signers, to show to who asks again

FLIGHTS_WAITING_MAX: Final = 2000  # records that wait for the disk: some 600 kB, and more orders than end in a second
FLIGHTS_EVERY_S: Final = 1.0
FLIGHT_FILE_BYTES: Final = 3 * MIB
FLIGHT_FILES_MAX: Final = 5  # 15 MiB, some 60,000 orders: the last ten models of 100 GB

WARMS_AT_ONCE_MAX: Final = 8  # snapshots that members may have us bring in side by side
WARMS_KEPT_MAX: Final = 64  # of those that ended: how they ended
WARM_POLL_S: Final = 1.0
WARM_MISSED_MAX: Final = 3  # answers that did not come: the node counts as lost

UPLOADS_MAX: Final = 32  # files whose parts pass through us side by side; one more, and the oldest is only passed on
UPLOAD_IDLE_S: Final = 600.0  # an upload without a new part for so long is not waited for
UPLOAD_WRITE_BYTES: Final = MIB  # written at a time; so much of each part that is under way is in memory
UPLOAD_PARTS_MAX: Final = 10_000  # of one file, with gaps between them: what S3 allows

# Uploads by Xet (huggingface.co/docs/xet), of which a copy is kept
XET_CHUNK_BYTES_MAX: Final = 128 * KIB  # Xet's own bound
XET_PACKED_BYTES_MAX: Final = 256 * KIB  # a chunk that packs badly: what Xet's own code accepts
XET_XORB_BYTES_MAX: Final = 72 * MIB  # 64 by the specification, and its footer
XET_XORB_CHUNKS_MAX: Final = 16_384  # 8,192 by the specification; finding so many takes 0.1 s, their places 128 KiB
XET_CHUNKS_KEPT_MAX: Final = 8_000_000  # of all clients' xorbs: half a terabyte, and 64 MB for their places; of files the same
XET_SESSIONS_MAX: Final = 32  # uploads side by side; one more, and the oldest idle one's xorbs go
XET_PLACES_MAX: Final = 16  # files of the store in which a xorb's chunks are remembered to lie
XET_RECALLED_MAX: Final = 4096  # xorbs of a shard that are looked up on disk: 256 GB, a tenth of a second
XET_SHARD_TERMS_MAX: Final = 65_536  # of a shard, 3 MiB: a terabyte in one piece, or 32 GB in pieces of half a megabyte
XET_EXPANSION_MAX: Final = 64  # a shard's files may be so many times what came: what repeats packs well, but hashing it costs
XET_WRITE_BYTES: Final = 256 * KIB  # written at a time; hf_xet sends up to 64 xorbs at once
XET_UPLOADS_AT_ONCE: Final = 32  # streams to the hub's storage: half of the connections, or other clients would wait for one
XET_SPENT_S: Final = 60.0  # after a shard was taken in: another of the same session may name the same xorbs

PRIVATE_OPENING_S: Final = 5.0  # what finding the peers of a private blob may cost before the hub is asked for it
PRIVATE_ROUND_S: Final = 10.0  # how often those who were not let in ask again
PRIVATE_ROUND_MIN_S: Final = 1.0  # where a hub's yes is believed for seconds only
PRIVATE_ROUND_MAX_S: Final = 80.0  # and how seldom in the end: 200 peers ask each other of each file
PRIVATE_ANSWER_S: Final = 0.05  # a yes takes some ms (64 KiB of disk and hashing); every answer takes this long
PRIVATE_EVIDENCE_MAX: Final = 20_000  # of what is sealed here, kept for the next question, ~5 MB
PRIVATE_ADMISSIONS_MAX: Final = 50_000  # ~10 MB: 200 peers with a model of 250 files
DISCLOSURE_BYTES: Final = 1 * KIB  # of a blob that is private here, before a listing makes it everybody's: nobody guesses them
DISCLOSURE_WAIT_S: Final = 20.0  # for a first chunk to compare with, where its fetch has just begun
DISCLOSED_MAX: Final = 50_000  # blobs that the hub was seen to give to strangers, ~10 MB
PRIVATE_NAMES_S: Final = 1.0  # how old the list of private blobs may be that questions are held against: a scan takes ms

# Upstream
HUB_CONNECT_TIMEOUT_S: Final = 4.0  # "a clear error from us within 5 s"
HUB_READ_TIMEOUT_S: Final = 15.0
HUB_WRITE_TIMEOUT_S: Final = 300.0  # a commit of thousands of files, the last part of a large one: the hub thinks for minutes
HUB_TRIES_MAX: Final = 5
HUB_REDIRECTS_MAX: Final = 5
HUB_CONNECTIONS: Final = 8  # per daemon: hubs limit requests, not bytes
HUB_POOL_CONNECTIONS: Final = 64  # all requests to one upstream, clients' own passed-on ones included
HUB_PAGE_TIMEOUT_S: Final = 60.0  # one JSON answer from its first byte to its last: a trickle is no answer
HUB_ROOT_TIMEOUT_S: Final = 5.0  # for a file's Xet root: a client waits meanwhile, and it can do without
HUB_DOWN_S: Final = 3.0  # an upstream that failed is not asked again for so long
HUB_SLOW_BYTES_S: Final = 64 * KIB  # a read that gets less, where another upstream may have the file, goes there
HUB_SLOW_AFTER_S: Final = 10.0  # of waiting for bytes: a hiccup is no reason, and the chunk under way is lost
HUB_SLOW_REST_S: Final = 60.0  # how long such an upstream comes after the others
TWIN_FRESH_S: Final = 600.0  # the other hub's listing of a repo under its alias is asked for no more often
TWIN_RETRY_S: Final = 30.0  # nor when it could not be had
HUB_WAIT_MAX_S: Final = 60.0  # a bulk read waits so long where the hub asks for patience; beyond that its caller decides
HUB_HEARSAY_MAX_S: Final = 300.0  # a peer's word that a hub is busy: Hugging Face counts in windows of 300 s
HUB_REDIRECT_BODY_BYTES_MAX: Final = 64 * KIB  # read to keep the connection; a longer one costs it
REVISION_FRESH_S: Final = 10.0  # a snapshot_download asks for its branch once and its files for seconds after
SMALL_RANGE_BYTES: Final = 8 * MIB  # a header of a large cold file is read from the hub at once
RANGE_WAIT_S: Final = 4.0  # unless peers bring the whole file so soon; twice that is less than the 10 s that clients wait
RANGES_OF_HELD_BYTES_MAX: Final = 64 * MIB  # of one file that peers hold; who wants more of it reads all of it, and can wait

# Gateway
REQUEST_HEAD_BYTES_MAX: Final = 32 * KIB
REQUEST_HEAD_TIMEOUT_S: Final = 10.0
CLIENTS_MAX: Final = 256
ADMIN_CLIENTS_MAX: Final = 16  # people and scripts of one machine
KEEP_ALIVE_S: Final = 75.0
WRITE_TIMEOUT_S: Final = 60.0  # a client that takes no byte for so long is gone
INTERIM_INTERVAL_S: Final = 3.0  # clients give up after 10 s of silence
VIGIL_S: Final = 1.0  # how often waiting clients are looked after; one that left frees its download so soon
REQUEST_BODY_BYTES_MAX: Final = 4 * MIB  # of a body that we read ourselves: a form with some 50,000 paths
REQUEST_BODY_TIMEOUT_S: Final = 60.0  # an upload that sends no byte for so long is gone
SENDERS_MAX: Final = 32  # threads in sendfile; they sleep in the kernel
SEND_STALL_S: Final = 0.1  # a client that makes no room for so long gives its thread back
SEND_SLICE_S: Final = 0.5  # so does one that takes for ever
XET_TICKETS_MAX: Final = 4096  # clients that read by Xet; the one that did not for longest gets a new one
XET_TICKET_S: Final = 24 * 3600  # a file of a terabyte takes hours
XET_PIECE_BYTES: Final = 256 * KIB  # of a file in memory for each request of a client; hf_xet makes up to 64 at once
HUB_PLAIN_BYTES_MAX: Final = 50_000_000_000  # huggingface_hub from 0.33 on takes larger files by Xet alone
COMMIT_LINE_BYTES_MAX: Final = 16 * MIB  # a file within a commit, in base64: hubs want larger ones in LFS
COMMIT_FILES_BYTES_MAX: Final = 32 * MIB  # of one commit: what is kept of small files until the hub has taken it
PUSHED_BRANCHES_MAX: Final = 16  # of one `git push`, whose listings are asked for when it is done
LINGER_S: Final = 1.0  # after our FIN we read on for so long: closing over unread bytes sends RST
LISTEN_BACKLOG: Final = 256
ACCESS_ALLOW_S: Final = 600.0
ACCESS_DENY_S: Final = 30.0
ACCESS_BUSY_S: Final = 300.0  # a yes lasts so much longer where the hub asks for patience: one of its windows
ACCESS_ENTRIES_MAX: Final = 10_000

# Store
INVENTORY_CHANGES_MAX: Final = 4096  # remembered for deltas: minutes of a busy node; who missed more gets everything (~1 MB)
USES_PENDING_MAX: Final = 256  # last uses kept in memory before the index learns them: eviction can bear to forget a few

# Commands that ask the local daemon
API_ANSWER_TIMEOUT_S: Final = 10.0
API_BYTES_MAX: Final = 64 * MIB  # what is held, as JSON
API_SILENCE_S: Final = 60.0  # a fetch reports a few times a second, also while it waits

PUSH_PARTS_AT_ONCE: Final = 4  # of one file: enough to fill a line that is far away
PUSH_MEMORY_BYTES: Final = 256 * MIB  # of parts on their way, which hubs choose some 16 MB large
PUSH_SILENCE_S: Final = 60.0  # a part of which storage takes no byte for so long is sent again
PUSH_ANSWER_S: Final = 300.0  # a commit of thousands of files: the hub thinks for minutes
PUSH_TRIES: Final = 3

# The house
GRACE_S: Final = 10.0  # from SIGTERM to the last cancel
DISCOVER_S: Final = 3.0  # how long a command that is its own daemon waits for a first peer: mDNS needs one to two
DESCRIPTORS_MAX: Final = 8192  # 256 links with 4 data connections each way, 256 clients, 128 open blobs with records, air
