<?php
// PHP's sysvsem, sysvshm and sysvmsg, used as a test tells it; see ipc.pl for
// the commands.

const SIZE = 10000;
const VARIABLE = 1;

// The functions warn and return false; what went wrong is said by the warning.
$warning = '';
set_error_handler(function (int $level, string $text) use (&$warning): bool {
    $warning = $text;
    return true;
});

function done(bool $success): int
{
    global $warning;
    return $success ? 0 : throw new Exception($warning);
}

function errno(int $number): string
{
    return [4 => 'EINTR', 7 => 'E2BIG', 11 => 'EAGAIN', 22 => 'EINVAL', 42 => 'ENOMSG', 43 => 'EIDRM'][$number] ?? "errno $number";
}

/** The objects of one key. */
class Objects
{
    private SysvSemaphore $sem;
    private SysvSharedMemory $shm;
    private SysvMessageQueue $msg;

    // The three functions find an object or create it.
    public function create(string $key): int
    {
        $key = intval($key, 16);
        $this->sem = sem_get($key, 1, 0600, true);
        $this->shm = shm_attach($key, SIZE, 0600);
        $this->msg = msg_get_queue($key, 0600);
        return 0;
    }

    public function find(string $key): int
    {
        return $this->create($key);
    }

    public function acquire(): int
    {
        return done(sem_acquire($this->sem));
    }

    public function release(): int
    {
        return done(sem_release($this->sem));
    }

    public function put(string $text): int
    {
        return done(shm_put_var($this->shm, VARIABLE, ['text' => $text]));
    }

    public function get(): string
    {
        return shm_get_var($this->shm, VARIABLE)['text'];
    }

    public function send(string $type, string $text): int
    {
        $errno = 0;
        return msg_send($this->msg, (int) $type, [$text], true, true, $errno)
            ? 0 : throw new Exception(errno($errno));
    }

    public function receive(string $type): string
    {
        $errno = 0;
        return msg_receive($this->msg, (int) $type, $_, 1000, $text, true, 0, $errno)
            ? $text[0] : throw new Exception(errno($errno));
    }

    public function remove(): int
    {
        return done(shm_remove($this->shm) && sem_remove($this->sem) && msg_remove_queue($this->msg));
    }

    /** What else the functions can do. */
    public function details(): string
    {
        [$sem, $shm, $msg] = [$this->sem, $this->shm, $this->msg];
        $found = [shm_has_var($shm, VARIABLE) ? 'has' : 'has not'];
        shm_put_var($shm, 2, str_repeat('x', 5000));
        $found[] = strlen(shm_get_var($shm, 2));
        $found[] = shm_put_var($shm, 3, str_repeat('y', SIZE)) ? 'fits' : 'too big';
        shm_remove_var($shm, 2);
        $found[] = shm_has_var($shm, 2) ? 'stays' : 'removed';
        $found[] = sem_acquire($sem, true) ? 'free' : 'taken';
        $found[] = sem_acquire($sem, true) ? 'free' : 'taken';
        sem_release($sem);
        $errno = 0;
        msg_receive($msg, 5, $_, 10, $text, true, MSG_IPC_NOWAIT, $errno);
        $found[] = errno($errno);
        msg_send($msg, 5, 'plain text', false);
        $stat = msg_stat_queue($msg);
        array_push($found, $stat['msg_qnum'], $stat['msg_lspid'] == getmypid() ? 'mine' : 'not mine');
        msg_set_queue($msg, ['msg_perm.mode' => 0640]);
        $found[] = decoct(msg_stat_queue($msg)['msg_perm.mode'] & 0777);
        $errno = 0;
        msg_receive($msg, 5, $_, 5, $text, false, 0, $errno);
        $found[] = errno($errno);
        msg_receive($msg, 0, $type, 5, $text, false, MSG_NOERROR);
        array_push($found, $type, $text);
        return implode(' ', $found);
    }

    public function exit(): never
    {
        exit(0);
    }
}

$objects = new Objects();
echo '= ', getmypid(), "\n";
while (($line = fgets(STDIN)) !== false) {
    $arguments = explode(' ', trim($line));
    $command = array_shift($arguments);
    try {
        $value = $objects->$command(...$arguments);
        echo "= $value\n";
    } catch (Exception $error) {
        echo '! ', $error->getMessage(), "\n";
    }
}
