"""One BitTorrent node for swarm_lab.py, by libtorrent: links first, starts when told, tells when it is done.

python torrent_node.py TORRENT DIR OWN_ADDRESS PEER_ADDRESS…     prints "linked", reads a line, prints "done"
"""

import sys
import time

import libtorrent

PORT = 6881
UPLOAD_ONLY = libtorrent.torrent_flags.upload_mode  # connects, asks nobody for anything


def main():
    torrent, folder, own, *peers = sys.argv[1:]
    session = libtorrent.session(
        {
            "listen_interfaces": f"{own}:{PORT}",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "allow_multiple_connections_per_ip": False,
            "alert_mask": 0,
            "close_redundant_connections": False,  # so that all are connected before anybody asks
            "enable_outgoing_utp": False,  # TCP is faster on a LAN
            "enable_incoming_utp": False,
            "ssrf_mitigation": False,  # the web seed has an address of a private network
        }
    )
    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(torrent)
    parameters.save_path = folder
    parameters.flags = UPLOAD_ONLY
    handle = session.add_torrent(parameters)
    while handle.status().num_peers < len(peers):
        for peer in peers:
            handle.connect_peer((peer, PORT))
        time.sleep(0.5)
    print("linked", flush=True)
    sys.stdin.readline()
    handle.unset_flags(UPLOAD_ONLY)
    while not handle.status().is_seeding:
        time.sleep(0.05)
    print("done", flush=True)
    sys.stdin.readline()


main()
