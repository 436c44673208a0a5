# Prints, as JSON, what the role has to know of the host. Arguments: user, ansible-playbook, a folder to look for it in, directory,
# vault password file; each may be empty.
text() { printf '%s' "$1" | sed 's/[\\"]/\\&/g'; }

login=$(id -un)
home=$(getent passwd "${1:-$login}" | cut -d: -f6)
executable=
for candidate in "${2:-$3/ansible-playbook}" "$([ -n "$2" ] || command -v ansible-playbook)"; do
    if [ -z "$executable" ] && [ -f "$candidate" ] && [ -x "$candidate" ]; then executable=$candidate; fi
done
manager=cron
[ ! -d /run/systemd/system ] || manager=systemd
crontab=no
[ -z "$(command -v crontab)" ] || crontab=yes
directory=no
[ ! -d "$4" ] || directory=yes
password=no
if [ -f "$5" ]; then
    password=text
    # Root may read all files, but may execute only those with such a bit.
    [ ! -x "$5" ] || password=script
fi
printf '{"uid": "%s", "login": "%s", "home": "%s", "ansible_playbook": "%s", "manager": "%s", "crontab": "%s", "directory": "%s", "password": "%s"}\n' \
    "$(id -u)" "$(text "$login")" "$(text "$home")" "$(text "$executable")" "$manager" "$crontab" "$directory" "$password"
